"""Circuits as small as they can be in a page, so that any two of a hundred can be compared without a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.looks import measure_of, strength_of
from acdc_engine.graph.names import GraphShape
from acdc_engine.show.gallery.entries import LONGEST, Entry
from acdc_engine.show.html.page import json_text
from acdc_engine.show.visible import plain

BUDGET = 20_000_000
"""Characters of all circuits together; a page of that size still opens in a few seconds."""
_DIGITS = 4


@dataclass
class Compared:
    """Circuits for `compare.html`, collected one by one.

    An edge is the number `sender * receivers + receiver` by the indices of `Graph`; a circuit is its edges in
    ascending order, each written as the distance from the one before, and beside them their strengths.

    Attributes:
        budget: Characters that all circuits together may have.
        shapes: Graph shapes, in the order met.
        runs: One record per run.
    """

    budget: int = BUDGET
    shapes: list[GraphShape] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)

    def add(self, entry: Entry, circuit: Circuit) -> None:
        """Adds a run."""
        shape = circuit.shape()
        if shape not in self.shapes:
            self.shapes.append(shape)
        layout = circuit.layout()
        codes = sorted((_code(layout, edge.sender, edge.receiver), edge) for edge in circuit.edges)
        measure = measure_of(circuit)
        self.runs.append(
            {
                "slug": entry.slug,
                "name": entry.name,
                "facts": _facts(entry),
                "shape": self.shapes.index(shape),
                "measure": measure,
                "edges": distances([code for code, _ in codes]),
                "strengths": [_short(strength_of(edge, measure)) for _, edge in codes],
                "nodes": [node.name for node in circuit.nodes],
                "roles": {node.name: plain(node.role, LONGEST) for node in circuit.nodes if node.role},
            }
        )

    def page_data(self) -> tuple[dict[str, Any], list[str]]:
        """Returns what the page reads, and the slugs of circuits too large for it, of which the page has the facts."""
        sizes = {run["slug"]: len(json_text(run)) for run in self.runs}
        left, fit = self.budget, set()
        for slug in sorted(sizes, key=lambda slug: sizes[slug]):
            left -= sizes[slug]
            if left < 0:
                break
            fit.add(slug)
        bare: dict[str, Any] = {"edges": None, "strengths": [], "nodes": [], "roles": {}}
        runs = [run if run["slug"] in fit else run | bare for run in self.runs]
        return {"shapes": [_shape(shape) for shape in self.shapes], "runs": runs}, [
            run["slug"] for run in self.runs if run["slug"] not in fit
        ]


def distances(ascending: Sequence[int]) -> list[int]:
    """Each number less the one before it."""
    return [here - before for before, here in zip((0, *ascending), ascending, strict=False)]


def _code(layout: Graph, sender: str, receiver: str) -> int:
    return layout.sender_index(sender) * layout.n_receivers + layout.receiver_index(receiver)


def _shape(shape: GraphShape) -> dict[str, Any]:
    layout = Graph(shape)
    return {
        "layers": shape.n_layers,
        "heads": shape.n_heads,
        "groups": shape.n_kv_heads,
        "mlps": shape.mlps,
        "words": shape_in_words(shape),
        "senders": layout.senders,
        "receivers": layout.receivers,
    }


def shape_in_words(shape: GraphShape) -> str:
    """Such as `30 layers of 9 heads (3 key/value groups)`."""
    groups = f" ({shape.n_kv_heads} key/value groups)" if shape.grouped else ""
    rest = ("" if shape.mlps else ", no MLPs") + (
        ", MLPs parallel to attention" if shape.parallel and shape.mlps else ""
    )
    return f"{shape.n_layers} layers of {shape.n_heads} heads{groups}{rest}"


def _facts(entry: Entry) -> list[tuple[str, str]]:
    def cell(key: str) -> str:
        shown = entry.cells[key]
        return f"{shown.text} ({shown.note})" if shown.note else shown.text

    return [
        ("Task", cell("task")),
        ("Model", cell("model")),
        ("Metric", entry.metric),
        ("Ablation", entry.ablation),
        ("Method", cell("method")),
        ("Search", cell("search")),
        ("Edges", f"{cell('edges')} of {entry.n_possible:,}"),
        ("Nodes", f"{entry.n_nodes:,}"),
        ("Faithfulness", cell("faithfulness")),
        ("KL recovered", cell("kl")),
        ("Date (UTC)", cell("date")),
    ]


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")
