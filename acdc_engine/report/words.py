"""Sentences of the report: what came out, how stable it is, how to read it."""

from __future__ import annotations

from typing import Literal

from acdc_engine.export.visible import plain
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_records import SIGN_CONVENTION

NAME = 120
"""Characters shown of a name."""

READING = (
    f"Signs: {SIGN_CONVENTION} (blue); negative: it works against it (vermilion).",
    "Faithfulness: the circuit's share of the difference between the metric on clean and on corrupt prompts, "
    "(m(circuit) - m(corrupt)) / (m(clean) - m(corrupt)). 1 is the model, 0 is a model with everything ablated, more "
    "than 1 overshoots. A mean can hide errors that cancel.",
    "KL recovered: how much of the KL divergence from the model's next-token distribution the circuit removes, "
    "1 - KL(model || circuit) / KL(model || everything ablated). 1 is the most there is. It sees the whole "
    "distribution, so it is the harder test.",
    "Effect of an edge: what the metric loses when this one edge is taken out of the circuit, computed exactly. Score: "
    "the estimate by which edges were ranked in the whole model. The two are not on one scale.",
    "Discovery prompts are those that the search saw: figures on them flatter. Intervals and random circuits are about "
    "the held-out prompts.",
)
"""How to read the report, in five lines."""


def title_of(circuit: Circuit) -> str:
    """Title of the page."""
    model = plain(circuit.model.name, NAME)
    return f"{model}: a circuit" if circuit.task is None else f"{plain(circuit.task.name, NAME)} in {model}"


def headline(circuit: Circuit) -> str:
    """One sentence: what was asked, and what came out."""
    layout, search, evaluation = circuit.layout(), circuit.search, circuit.evaluation
    size = (
        f"{len(circuit.edges):,} of {layout.n_edges:,} edges, {len(circuit.nodes):,} of {layout.n_senders + 1:,} nodes"
    )
    model = plain(circuit.model.name, NAME)
    behaviour = "" if circuit.task is None else f" for {plain(circuit.task.name, NAME)}"
    # Without its cost it was judged on something else since it was found.
    if search is not None and search.target_faithfulness is not None and circuit.cost is not None:
        aim = "KL recovered" if search.objective == "kl" else "faithfulness"
        asked = f"Asked for a circuit of {model}{behaviour} with {aim} {search.target_faithfulness:g}: found {size}"
    else:
        asked = f"A circuit of {model}{behaviour}: {size}"
    if evaluation is None:
        return f"{asked}. It has not been judged."
    held_out = evaluation.held_out
    interval = held_out.faithfulness_interval
    between = "" if interval is None else f" ({interval.level:.0%} interval {interval.low:.3f} to {interval.high:.3f})"
    return (
        f"{asked}. On {held_out.n_prompts:,} held-out prompts its faithfulness is {held_out.faithfulness:.3f}{between} "
        f"and it recovers {held_out.kl_recovered:.3f} of the KL divergence."
    )


def spread(circuit: Circuit, what: Literal["stability", "necessity"]) -> str:
    """How stability or necessity is spread over the edges, in a sentence; empty where it is not known."""
    shares = [(getattr(edge, what), f"{edge.sender} -> {edge.receiver}") for edge in circuit.edges]
    known = sorted((value, name) for value, name in shares if value is not None)
    values = [value for value, _ in known]
    if not values:
        return ""
    quarter, median, three = (values[round(share * (len(values) - 1))] for share in (0.25, 0.5, 0.75))
    high = sum(value >= 0.9 for value in values)
    low = sum(value < 0.5 for value in values)
    weakest = ", ".join(f"{name} ({value:.0%})" for value, name in known[:3])
    meaning = {
        "stability": "share of resampled discovery prompts whose scores select the edge",
        "necessity": "share of resampled discovery prompts that miss the target without the edge",
    }[what]
    return (
        f"{what.capitalize()} ({meaning}): median {median:.0%}, middle half {quarter:.0%} to {three:.0%}; {high:,} of "
        f"{len(values):,} edges at 90% or more, {low:,} below 50%. Lowest: {weakest}."
    )
