"""Sentences of the report: what was asked and came out, what is to be said against it, how stable it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.records import SearchRecord
from acdc_engine.show.remarks import remarks
from acdc_engine.show.visible import plain

NAME = 120
"""Characters shown of a name."""
FEW = 8
"""Values that have no quartiles to speak of."""


def title_of(circuit: Circuit) -> str:
    """Title of the page."""
    model = plain(circuit.model.name, NAME)
    behaviour = circuit.behaviour_name
    return f"{model}: a circuit" if behaviour is None else f"{plain(behaviour, NAME)} in {model}"


def headline(circuit: Circuit) -> str:
    """One sentence: what was asked, and what came out."""
    layout, evaluation = circuit.layout(), circuit.evaluation
    size = (
        f"{len(circuit.edges):,} of {layout.n_edges:,} edges, {len(circuit.nodes):,} of {layout.n_senders + 1:,} nodes"
    )
    model = plain(circuit.model.name, NAME)
    behaviour = "" if circuit.behaviour_name is None else f" for {plain(circuit.behaviour_name, NAME)}"
    # Without its cost it was judged on something else since it was found.
    aim = "" if circuit.search is None or circuit.cost is None else _aim(circuit.search)
    asked = f"Asked for a circuit of {model}{behaviour} {aim}: found {size}"
    if not aim:
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


def _aim(search: SearchRecord) -> str:
    """What a search was asked for; empty where that is not known."""
    if search.target_faithfulness is not None:
        aim = "KL recovered" if search.objective == "kl" else "faithfulness"
        return f"with {aim} {search.target_faithfulness:g}"
    size, threshold = search.settings.get("size"), search.settings.get("threshold")
    if isinstance(size, int):
        return f"with at most {size:,} edge{'' if size == 1 else 's'}"
    return f"with the threshold {threshold:g}" if isinstance(threshold, int | float) else ""


def reservations(circuit: Circuit) -> list[str]:
    """What a reader should be told before believing the headline; empty when there is nothing to tell."""
    tests = () if circuit.evaluation is None else circuit.evaluation.tests
    rejected = [f"The test of {test.name} is against it. {plain(test.details)}" for test in tests if test.rejected]
    return [*(remark[:1].upper() + remark[1:] for remark in remarks(circuit)), *rejected]


def no_reservations(circuit: Circuit) -> str:
    """What was looked at when there are no reservations, and what was not."""
    evaluation, search = circuit.evaluation, circuit.search
    random = None if evaluation is None else evaluation.random_circuits
    aimed = search is not None and search.target_faithfulness is not None
    looked = ["its faithfulness"] + (["its target"] if aimed else []) + ["the model's outputs"]
    looked += ([] if random is None else ["random circuits"]) + (["tests"] if evaluation and evaluation.tests else [])
    missing = "" if random is not None else " It was not compared with random circuits."
    return (
        f"Nothing is to be remarked on {', '.join(looked[:-1])} and {looked[-1]}, as far as held-out prompts tell."
        f"{missing}"
    )


def evaluate_command(circuit: Circuit) -> str:
    """What to type to have a circuit judged; one without prompts needs a task."""
    return f"acdc evaluate FILE {'' if circuit.prompts else '--task TASK '}--out NEW"


def spread(circuit: Circuit, what: Literal["stability", "necessity"]) -> str:
    """How stability or necessity is spread over the edges, in a sentence; empty where it is not known."""
    shares = [(getattr(edge, what), f"{edge.sender} -> {edge.receiver}") for edge in circuit.edges]
    known = sorted((value, name) for value, name in shares if value is not None)
    if not known:
        return ""
    within = {
        "stability": f"its score is among the strongest {len(circuit.edges):,} of the whole model",
        "necessity": "the target is missed without the edge, of those in which the circuit itself meets it",
    }[what]
    return (
        f"{what.capitalize()} of an edge is the share of bootstrap resamples of the discovery prompts in which "
        f"{within}: {_spread(known)}."
    )


def _spread(known: Sequence[tuple[float, str]]) -> str:
    values = [value for value, _ in known]
    low, high = values[0], values[-1]
    if low == high:
        return f"{low:.0%} for {'the only edge' if len(values) == 1 else f'all {len(values):,}'}"
    quarter, median, three = (values[round(share * (len(values) - 1))] for share in (0.25, 0.5, 0.75))
    middle = f", middle half {quarter:.0%} to {three:.0%}" if len(values) >= FEW else ""
    often = sum(value >= 0.9 for value in values)
    rarely = sum(value < 0.5 for value in values)
    weakest = ", ".join(f"{name} ({value:.0%})" for value, name in known[:3])
    return (
        f"median {median:.0%}{middle}; {often:,} of {len(values):,} edges at 90% or more, {rarely:,} below 50%. "
        f"Lowest: {weakest}"
    )
