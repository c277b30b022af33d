"""What a circuit file says of other circuits that meet the same target."""

from __future__ import annotations

from pydantic import Field

from acdc_engine.graph.records import CircuitEdge, Record


class CircuitFigures(Record):
    """How well a set of edges does the task; without effects, intervals and tests."""

    n_edges: int = Field(ge=0)
    """Edges on paths from input to logits. 0: nothing is left, and it is the ablated model."""
    discovery: float
    """Faithfulness on the discovery prompts."""
    held_out: float
    """Faithfulness on the held-out prompts."""
    kl_recovered: float
    """KL recovered on the held-out prompts."""
    templates: dict[str, float | None] = Field(default_factory=dict)
    """Held-out faithfulness of each template, where there are several; null where it is undefined."""


class Alternative(CircuitFigures):
    """Another circuit that meets the target on the discovery prompts."""

    edges: tuple[CircuitEdge, ...] = Field(min_length=1)
    """Its edges, with their scores."""
    overlaps: tuple[float, ...] = Field(min_length=1)
    """Edges in common with the circuit of the file, and with each alternative before this one, as a share of the
    smaller circuit's."""


class Alternatives(Record):
    """Circuits with few edges in common, and how hard others were searched for."""

    asked: int = Field(ge=1)
    """How many were to be found."""
    overlap: float = Field(ge=0, lt=1)
    """Largest overlap that was allowed with each circuit found before."""
    found: tuple[Alternative, ...] = ()
    """In the order in which they were found."""
    searches: int = Field(ge=0)
    """Searches that were made for all of them: with none of the earlier circuits' edges allowed, then with more."""
    evaluations: int = Field(ge=0)
    """Circuits that they ran."""
    closest: float | None = None
    """Objective of the circuit nearest to the target among those that the last search ran, where it found none. Null
    where all were found, or nothing was run."""
    stopped: bool = False
    """Whether time was over before the searches were."""
    union: CircuitFigures | None = None
    """All circuits together, that of the file included. Null where no alternative was found."""
    intersection: CircuitFigures | None = None
    """The edges that all of them have."""
