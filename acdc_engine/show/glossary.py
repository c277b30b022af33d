"""What the words and numbers of a report mean: names, as their registers say, units, columns, how to read it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from acdc_engine.display import meaning_of
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Evaluation
from acdc_engine.graph.looks import measure_of
from acdc_engine.graph.records import SIGN_CONVENTION
from acdc_engine.show.remarks import NAME
from acdc_engine.show.visible import plain
from acdc_engine.show.words import ABLATIONS_IN_WORDS

_NODES = (
    "Names: a5.h3 is head 3 of layer 5 and m4 the MLP of layer 4, counted from 0; a5.h3<q>, <k> and <v> are the head's "
    "query, key and value input"
)
_GROUPS = "; a5.kv1<k> is the key input of group 1, which several heads share"


def described(circuit: Circuit) -> dict[str, str]:
    """What the names in `words.facts` stand for, by the same labels; names of other tools have no meaning here."""
    names = {
        "Metric": ("metric", circuit.metric and circuit.metric.name),
        "Scores": ("scoring method", circuit.attribution and circuit.attribution.method),
        "Search": ("strategy", circuit.search and circuit.search.strategy),
    }
    if circuit.ablation not in ABLATIONS_IN_WORDS:
        names["Ablation"] = ("ablation", circuit.ablation)
    found = {label: meaning_of(kind, name) for label, (kind, name) in names.items() if name}
    return {label: plain(text) for label, text in found.items() if text}


def edge_notes(circuit: Circuit) -> list[str]:
    """What the effect and the score of an edge are, as far as any edge has one."""
    metric, unit = "the metric", ""
    if circuit.metric is not None:
        metric = plain(circuit.metric.name, NAME)
        told = re.search(r"\(([^(),]+)[^()]*\)$", meaning_of("metric", circuit.metric.name))
        unit = f" ({told[1]})" if told else ""
    notes = []
    if any(edge.effect is not None for edge in circuit.edges):
        notes.append(
            f"effect: how much {metric}{unit} falls when this edge alone is taken out of the circuit, exactly, mean "
            "over discovery prompts"
        )
    if any(edge.score is not None for edge in circuit.edges):
        of = " on KL (nats)" if circuit.search is not None and circuit.search.objective == "kl" else ""
        notes.append(
            f"score: the estimate of its effect{of} in the whole model, by which edges were ranked; not on the scale "
            "of effects"
        )
    return notes


def reading(circuit: Circuit) -> list[str]:
    """How to read the report, of what is in it."""
    groups = "" if circuit.model.n_kv_heads == circuit.model.n_heads else _GROUPS
    lines = [f"{_NODES}{groups}."]
    if measure_of(circuit) is not None:
        lines.append(f"Signs: {SIGN_CONVENTION} (blue); negative: it works against it (vermilion).")
    if circuit.evaluation is not None:
        lines += _figures(circuit.evaluation)
    if any(edge.stability is not None for edge in circuit.edges):
        lines.append(
            "Stability is about the scores of the whole model. A search that scores again inside the circuit can need "
            "an edge that these scores put far down: that it is needed is what necessity says."
        )
    if any(node.role_scores for node in circuit.nodes):
        lines.append(
            "Measured roles are scores of what a head looks at and writes that reach the role's threshold, on the "
            "task's prompts or on random tokens repeated. The class is one of them; docs/roles.md of acdc-engine says "
            "which, and defines them all."
        )
    if circuit.cost is not None and circuit.cost.stages:
        lines.append(
            "A pass, where cost is told, is a plain forward pass of the model over all discovery prompts, logits at "
            "every position. Counted are the floating-point operations of all matrix products, attention among them, "
            "of every stage of the run: they are the same on every machine, but what takes time without them (norms, "
            "small operations, planning, files) is not in them; seconds are. A run that was gone on with counts what "
            "all its processes did."
        )
    return lines


def _figures(evaluation: Evaluation) -> Iterator[str]:
    yield (
        "Discovery prompts are those that the search saw: figures on them flatter. Intervals, random circuits and "
        "tests are about the held-out prompts. Intervals are of bootstrap resamples of them."
    )
    yield (
        "Faithfulness: the circuit's share of the difference between the metric on clean and on corrupt prompts, "
        "(m(circuit) - m(corrupt)) / (m(clean) - m(corrupt)). 1 is the model, 0 is a model with everything ablated, "
        "more than 1 overshoots. A mean can hide errors that cancel; normalised error, the mean of |circuit - model| "
        "over prompts on the same scale, does not: 0 is the model."
    )
    yield (
        "KL recovered: how much of the KL divergence from the model's next-token distribution the circuit removes, "
        "1 - KL(model || circuit) / KL(model || everything ablated). 1 is the most there is. It sees the whole "
        "distribution, so it is the harder test."
    )
    if evaluation.held_out.answers_circuit is not None:
        yield (
            "What it answers: that a right answer comes above the wrong ones says nothing of all other tokens. The "
            "most likely token is that of the whole vocabulary, and the rank is the best right answer's place in it, "
            "other right answers not counted; the mean logits tell a circuit that raises the right answer from one "
            "that only lowers the wrong one."
        )
    if evaluation.random_circuits is not None:
        n = len(evaluation.random_circuits.faithfulness)
        yield (
            "p of random circuits: the share of circuits, this one counted, that are at least as near to a "
            f"faithfulness of 1. Small is good; with {n:,} of them it cannot be below {1 / (1 + n):.2g}."
        )
    if evaluation.tests:
        yield (
            "Tests (Shi et al. 2024, arXiv 2410.13032): each asks whether the circuit falls short of an ideal one. "
            f"Rejected, where p corrected for their number (Holm) is at most {evaluation.tests[0].alpha:g}, it does; "
            "not rejected says only that it could not be shown."
        )
