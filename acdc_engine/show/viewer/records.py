"""What the viewer's page is given, as records: the format `acdc-engine/view`, published in docs/view-schema.json."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field

from acdc_engine.graph.evidence_records import Example
from acdc_engine.graph.records import DirectEffect, Record, RoleScore
from acdc_engine.graph.style import Measure

Status = Literal["found", "missed", "extra"]
"""Beside a known circuit: in both, in the known one only, in this one only."""


class ViewDoses(Record):
    """A head turned up and down by itself in the whole model, at all places of the prompt."""

    metric: str
    """Name of the metric of the circuit's task."""
    n_prompts: int = Field(ge=1)
    """Held-out prompts."""
    factors: tuple[float, ...]
    """What the head writes is multiplied by; 1 is the model as it is."""
    values: tuple[float, ...]
    """Mean metric under each of them."""


class ViewNode(Record):
    """A node and its place."""

    id: str
    """Its name: input, a5.h3, m4 or logits; at a place of the prompt, a5.h3@B.2."""
    kind: Literal["input", "head", "mlp", "logits"]
    """What the node is."""
    layer: int | None
    """Layer of a head or MLP."""
    span: str | None
    """The place in the prompt; null in the picture that does not tell places apart."""
    x: float
    """Centre of its box, in pixels to the right."""
    y: float
    """The same, downwards: the input is lowest, so its y is the largest."""
    role: str | None
    """What it does in the circuit."""
    known_role: str | None
    """Its class in the known circuit beside this one."""
    role_scores: tuple[RoleScore, ...]
    """Of heads, measured."""
    direct: DirectEffect | None
    """What it writes to the answer directly."""
    doses: ViewDoses | None
    """Of heads: dose and response. Null where it was not measured."""
    status: Status | None
    """Beside a known circuit; null without one."""
    edges_in: int = Field(ge=0)
    """Edges of the circuit into it."""
    edges_out: int = Field(ge=0)
    """Edges of the circuit out of it."""


class ViewLine(Record):
    """A line of the picture, from the edge's source to a node that reads it."""

    target: str
    """Node that reads, or the dot where a key or value is read."""
    bends: tuple[tuple[float, float], ...]
    """Points that the line passes between its ends, from the sender on."""


class ViewEdge(Record):
    """An edge, which is one line, or several where heads of the circuit share the key or value that it enters."""

    name: str
    """As in the circuit file: `a5.h5->a7.h3<q>`, `a5.h5->a7.kv1<k>`; at a place, `a5.h5->a7.h3<q>@B.2`."""
    source: str
    """Node that writes."""
    receiver: str
    """What is read, as in the circuit file: of a group of heads, `a7.kv1<k>`."""
    kind: Literal["q", "k", "v", "mlp", "logits"]
    """What is read."""
    score: float | None
    """What attribution says the metric would lose without it. Positive: it supports the behaviour."""
    effect: float | None
    """What the metric loses, exactly, without it. Positive: it supports the behaviour."""
    without: float | None
    """The search's objective without it."""
    stability: float | None
    """Share of resamples whose scores select it."""
    necessity: float | None
    """Share of resamples in which the target is missed without it."""
    inclusion: float | None
    """Share of the repeats of the search that have it."""
    faint: bool
    """Drawn faint: outside the inner circuit, or outside the core of the repeats."""
    strength: float | None
    """Its effect or score, whichever ranks this circuit's edges."""
    place: int | None
    """Its rank among all edges of the circuit, 1 the strongest. Null where nothing ranks them, and of missed edges."""
    appears: int = Field(ge=0)
    """Index of the first of `sizes` in which it is there; 0 for missed edges."""
    status: Status | None
    """Beside a known circuit; null without one."""
    lines: tuple[ViewLine, ...]
    """One to each head or MLP, or to the logits; at a place of the prompt, one alone."""


class ViewSize(Record):
    """A size of the circuit: so many of the strongest edges, less those on no path from input to logits."""

    kind: Literal["part", "circuit", "more"]
    """A part of the circuit, all of it, or it with more edges."""
    requested: int = Field(ge=0)
    """Edges before cleaning."""
    edges: int = Field(ge=0)
    """Edges after cleaning."""
    faithfulness: float | None = None
    """On the held-out prompts. Null where it was not measured."""
    low: float | None = None
    """Lower end of its interval."""
    high: float | None = None
    """Upper end of its interval."""
    kl_recovered: float | None = None
    """On the held-out prompts. Null where it was not measured."""
    random_low: float | None = None
    """Least faithfulness of random clean circuits with as many edges. Null where there are none."""
    random_high: float | None = None
    """Most faithfulness of them."""


class ViewBox(Record):
    """A box of the picture by role: nodes that have one role, the MLPs without a role, or a single node."""

    name: str
    """What stands in it: the role, or what the nodes are."""
    role: str | None
    """Their role; null for nodes without one."""
    nodes: tuple[str, ...]
    """Their ids."""
    lines: tuple[str, ...]
    """Names that are written in it; of many nodes the first."""
    mlps: bool
    """Whether it is the box of the MLPs, which a picture of heads only leaves out."""
    x: float
    """Left side, in pixels."""
    y: float
    """Upper side, downwards."""
    width: float
    """Pixels."""
    height: float
    """Pixels."""


class ViewWay(Record):
    """A line between two boxes, which stands for all edges between their nodes."""

    source: str
    """Name of the box that writes."""
    target: str
    """Name of the box that reads."""
    via: bool
    """It stands for paths through MLPs alone: drawn with heads only, where a box would stand loose."""
    points: tuple[tuple[float, float], ...]
    """Of cubic curves: the start, then two control points and the end of each."""
    label: tuple[float, float]
    """Middle of what is written on it."""


class ViewRoles(Record):
    """The picture by role."""

    boxes: tuple[ViewBox, ...]
    """From the input to the logits."""
    ways: tuple[ViewWay, ...]
    """One for each pair of boxes with edges, or with nothing but paths through MLPs."""
    width: float
    """Of the picture of heads only."""
    width_with_mlps: float
    """Of the picture with the MLPs."""
    height: float
    """Of both."""


class ViewOverlay(Record):
    """A known circuit beside this one. Counts are of edges."""

    known: str
    """Its name."""
    found: int = Field(ge=0)
    """In both."""
    missed: int = Field(ge=0)
    """In the known circuit only."""
    extra: int = Field(ge=0)
    """In this circuit only."""


class ViewBand(Record):
    """A column or a row of the picture by place."""

    name: str
    """The place; of a row the layer, input or logits."""
    words: str
    """What stands at the place in the first example; of a row nothing."""
    start: float
    """Left or upper side, in pixels."""
    size: float
    """Width or height."""


class ViewDot(Record):
    """A key or value that heads of the circuit read at a place; or a ring, where they look and read nothing of it."""

    id: str
    """As edges name it: `a7.h3<k>@B.2`, of a group of heads `a7.kv1<k>@B.2`. Of a ring, layer and place: `a7@B.2`."""
    kind: Literal["k", "v", "ring"]
    """Key, value, or a ring: heads look there on clean prompts and away from it on corrupt ones."""
    layer: int
    """Layer of the heads."""
    span: str
    """The place that it is read at."""
    x: float
    """Pixels to the right."""
    y: float
    """Pixels downwards."""
    edges_in: int = Field(ge=0)
    """Edges of the circuit into it."""


class ViewAttention(Record):
    """A line of attention: a head at a place looks back at a dot. Figures are of the dot's place, null if unknown."""

    source: str
    """The dot."""
    target: str
    """The head, at its place."""
    weight: float | None = None
    """Share of the head's attention, on clean prompts."""
    weight_corrupt: float | None = None
    """The same on corrupt prompts."""
    score: float | None = None
    """What attribution says the metric would lose without the values there; null of keys."""
    effect: float | None = None
    """What it loses, exactly; null of keys."""


class ViewPlaces(Record):
    """The picture by place: the circuit with its edges at places, columns of places and rows of layers."""

    measure: Measure | None
    """What its edges are ranked by."""
    n_edges: int = Field(ge=0)
    """Its edges, hidden ones included; each counts once for every place."""
    hidden_edges: int = Field(ge=0)
    """Those that are left out because there are too many."""
    hidden_missed: int = Field(ge=0)
    """Those of the known circuit alone that are left out because there are too many."""
    overlay: ViewOverlay | None
    """The known circuit beside this one, if it tells the same places apart: counts are of edges at places."""
    columns: tuple[ViewBand, ...]
    """Places, in the order of the prompt."""
    rows: tuple[ViewBand, ...]
    """Layers, the lowest first: the input, those that have nodes, the logits."""
    nodes: tuple[ViewNode, ...]
    """In the order of the model."""
    edges: tuple[ViewEdge, ...]
    """The strongest first."""
    dots: tuple[ViewDot, ...]
    """Keys and values, then rings."""
    attention: tuple[ViewAttention, ...]
    """From the dots to the heads that look back at them."""


class ViewData(Record):
    """A circuit as the viewer shows it: placed, ranked, and beside a known one if there is one.

    Of a circuit with places, nodes, edges and roles are those without them, each edge once with the sum of its scores.
    """

    format: Literal["acdc-engine/view"] = "acdc-engine/view"
    """Says what this is."""
    version: Literal[3] = 3
    """Version of the format."""
    title: str
    """One line."""
    model: str
    """Name of the model."""
    task: str | None
    """Name of the task, or what a hand-written circuit says that it does."""
    about: tuple[tuple[str, str], ...]
    """Labels and texts: where the circuit comes from and how good it is."""
    hand_written: bool
    """No search found it and it has not been judged."""
    measure: Measure | None
    """What edges are ranked by."""
    faint: str
    """What it means that an edge is faint."""
    n_edges: int = Field(ge=0)
    """Edges of the circuit, hidden ones included."""
    hidden_edges: int = Field(ge=0)
    """Edges of the circuit that are left out because there are too many: the weakest, or the last where nothing ranks
    them."""
    hidden_missed: int = Field(ge=0)
    """Edges of the known circuit alone that are left out because there are too many: the last of its file."""
    nodes: tuple[ViewNode, ...]
    """In the order of the model."""
    edges: tuple[ViewEdge, ...]
    """The strongest first."""
    places: ViewPlaces | None
    """The picture by place; null for circuits that do not tell places apart."""
    sizes: tuple[ViewSize, ...] = Field(min_length=1)
    """Stops of the slider, smallest first; the last is the circuit. Of a circuit with places, their edges are those at
    places."""
    larger: tuple[ViewSize, ...]
    """The circuit with more edges besides, measured but not drawn; smallest first."""
    by_role: ViewRoles
    """Nodes of a role as one box."""
    examples: tuple[Example, ...]
    """As in the circuit file."""
    overlay: ViewOverlay | None
    """The known circuit beside this one."""


def schema_text() -> str:
    """The content of `docs/view-schema.json`."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **ViewData.model_json_schema(),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
