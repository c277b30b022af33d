"""A circuit and the smaller one inside it, side by side, as a section."""

from __future__ import annotations

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Figures
from acdc_engine.show.sections import Column, Section, table_of, three
from acdc_engine.show.visible import plain
from acdc_engine.show.words import NAME, between


def inner_section(circuit: Circuit) -> Section | None:
    """Size and figures of both, on the same held-out prompts; None where there is no inner circuit."""
    inner, judged = circuit.inner, circuit.evaluation
    if inner is None:
        return None
    sides = [_figures(inner.figures), _figures(None if judged is None else judged.held_out)]
    nodes = sum(node.kind in ("head", "mlp") for node in circuit.nodes)
    rows = [
        ("edges", f"{len(inner.edges):,}", f"{len(circuit.edges):,}"),
        ("heads and MLPs", f"{inner.nodes:,}", f"{nodes:,}"),
        *((name, *(side.get(name, "") for side in sides)) for name in dict.fromkeys([*sides[0], *sides[1]])),
    ]
    return Section(
        "The inner circuit and the one around it, held-out prompts",
        table=table_of((Column("", "text"), "the inner circuit", "the circuit"), rows),
        notes=[
            "The circuit has every edge of the inner one: none of these was tried for removal, so each of them may be "
            "superfluous in it. In pictures they are drawn strong, and the others faint."
        ],
    )


def _figures(figures: Figures | None) -> dict[str, str]:
    """The figures of one of them by name; nothing where they were not measured."""
    if figures is None:
        return {}
    found = {
        "faithfulness": three(figures.faithfulness),
        "faithfulness, interval": between(figures.faithfulness_interval),
    }
    found |= {f"faithfulness on {plain(one.name, NAME)}": three(one.faithfulness) for one in figures.templates}
    found |= {"KL recovered": three(figures.kl_recovered), "KL recovered, interval": between(figures.kl_interval)}
    found |= {f"KL recovered on {plain(one.name, NAME)}": three(one.kl_recovered) for one in figures.templates}
    answers = figures.answers_circuit
    found["right answer most likely (top-1)"] = "" if answers is None else f"{answers.most_likely:.1%}"
    return {name: text for name, text in found.items() if text}
