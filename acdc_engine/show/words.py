"""Sentences about a circuit: where it comes from, what came out, what speaks for and against it, what words mean."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from acdc_engine.display import meaning_of
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Certificate, Evaluation, Interval
from acdc_engine.graph.files import checksum_of
from acdc_engine.graph.records import SIGN_CONVENTION, Cost, SearchRecord
from acdc_engine.graph.style import measure_of
from acdc_engine.show.remarks import NAME, aim_of, as_near, in_brief, remarks, untested
from acdc_engine.show.visible import plain

LONGEST = 600
"""Characters shown of a text."""
_NAME = 120
"""Characters shown of a name."""
_FEW = 8
"""Values that have no quartiles to speak of."""
_ABLATIONS = {
    "patch": "edges outside the circuit carry the corrupt run's activations",
    "mean": "edges outside the circuit carry the mean over prompts",
    "zero": "edges outside the circuit carry zero",
}
"""Here and not from their register, which needs torch: `acdc show` answers at once."""


def facts(circuit: Circuit) -> dict[str, str]:
    """Where a circuit comes from and how it was found, as labels and texts; what is not known is left out."""
    model, task, metric, search = circuit.model, circuit.task, circuit.metric, circuit.search
    groups = "" if model.n_kv_heads == model.n_heads else f", {model.n_kv_heads} k/v heads"
    split = " (k and v taken apart)" if model.ungrouped_kv else ""
    kind = f"{model.architecture}, " if model.architecture else ""
    rows: dict[str, str | None] = {
        "Circuit": _size_of(circuit),
        "Model": f"{model.name}: {kind}{_count(model.n_layers, 'layer')}, {_count(model.n_heads, 'head')}{groups}"
        f"{split}",
    }
    if task is not None:
        left = task.left_out
        misfits = f"; {left.count} of {left.of} pairs left out that do not fit the model" if left else ""
        rows["Task"] = (
            f"{task.name}: {task.n_discovery} discovery and {task.n_held_out} held-out prompts{misfits}, "
            f"seed {task.seed}"
        )
    else:
        rows["Behaviour"] = circuit.behaviour
    if metric is not None:
        rows["Metric"] = f"{metric.name}, {'higher' if metric.sign > 0 else 'lower'} supports the behaviour"
    if circuit.attribution is not None:
        rows["Scores"] = circuit.attribution.method + _settings(circuit.attribution.settings)
    if search is not None:
        rows["Search"] = search.strategy + _settings(search.settings) + in_brief(search)
        if search.target_faithfulness is not None:
            rows["Target"] = f"{aim_of(search.objective)} {search.target_faithfulness:g} on the discovery prompts"
    if circuit.ablation is not None:
        what = _ABLATIONS.get(circuit.ablation)  # none of a package of others
        rows["Ablation"] = circuit.ablation + (f": {what}" if what else "")
    rows |= {"Source": circuit.source, "Rule": circuit.rule, "Made by": circuit.made_by}
    rows["Cost"] = None if circuit.cost is None else cost_of(circuit.cost)
    return {name: plain(text, LONGEST) for name, text in rows.items() if text is not None}


def _size_of(circuit: Circuit) -> str:
    """How many of the edges and nodes it has."""
    layout = circuit.graph()
    return (
        f"{len(circuit.edges):,} of {layout.n_edges:,} edges, {len(circuit.nodes):,} of {layout.n_senders + 1:,} nodes"
    )


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _settings(settings: Mapping[str, object]) -> str:
    return f" ({', '.join(f'{key} {value}' for key, value in settings.items())})" if settings else ""


def cost_of(cost: Cost, *, stages: bool = False) -> str:
    """What a circuit took; files from before passes were counted tell time as passes.

    With `stages` also the time of processors, and the dearest stages, in passes: everything is counted, so those left
    out are small.
    """
    processors = f" ({cost.cpu_seconds:,.0f} s of processors)" if stages and cost.cpu_seconds is not None else ""
    dear = [one for one in cost.stages if stages and one.forward_passes >= cost.forward_passes / 50]
    listed = "; passes: " + ", ".join(f"{one.name.lower()} {one.forward_passes:,.1f}" for one in dear) if dear else ""
    return (
        f"{cost.seconds:,.0f} s{processors}, {cost.forward_passes:,.0f} forward passes' worth of "
        f"{'everything' if cost.stages else 'time'}, {cost.peak_memory_bytes / 2**30:.1f} GiB at most, "
        f"{cost.exact_evaluations:,} circuits run exactly{listed}"
    )


def evidence_of(circuit: Circuit) -> dict[str, str]:
    """Certificate, baseline, completeness and tests, as far as there are any."""
    rows = {} if circuit.certificate is None else {"certificate": _certificate(circuit.certificate)}
    if (why := untested(circuit)) is not None:
        rows["single edges"] = why
    return rows if circuit.evaluation is None else rows | held_out_evidence(circuit.evaluation, len(circuit.edges))


def held_out_evidence(evaluation: Evaluation, size: int | None = None) -> dict[str, str]:
    """Random circuits, completeness and tests, as far as there are any; `size` is the circuit's, where known."""
    alike = "of the same size" if size is None else f"with {size:,} edges each"
    rows, random, rest = {}, evaluation.random_circuits, evaluation.completeness
    if random is not None:
        values = [round(value, 3) + 0.0 for value in random.faithfulness]  # no minus before a zero
        rows["random circuits"] = (
            f"{len(values)} {alike}: faithfulness {min(values):.3f} to {max(values):.3f}, mean "
            f"{sum(values) / len(values):.3f}; {as_near(random) or 'none'} as near to 1 as this one (p "
            f"{random.p_value:.2g})"
        )
    if rest is not None:
        rows["completeness"] = (
            f"all that is outside the circuit has faithfulness {rest.faithfulness:.3f} and KL recovered "
            f"{rest.kl_recovered:.3f}; 0 would say that the circuit holds everything"
        )
    for test in evaluation.tests:
        verdict = "REJECTED" if test.rejected else "not rejected"
        rows[test.name] = f"{verdict} (p {test.p_adjusted:.2g}, corrected). {plain(test.details)}"
    return rows


def _certificate(found: Certificate) -> str:
    band = f"[{found.low:g}, {found.high:g}]"
    value = f"{aim_of(found.objective)} {found.value:.3f} on the discovery prompts"
    if found.minimal:
        return f"no edge can go: {value} lies in {band}, and without any one edge it does not"
    return f"not minimal: {value}; it leaves {band}, or stays in it without some edge"


def between(interval: Interval | None) -> str:
    """An interval's ends; empty without one."""
    return "" if interval is None else f"{interval.low:.3f} to {interval.high:.3f}"


def title_of(circuit: Circuit) -> str:
    """What a page about it is called."""
    model, behaviour = plain(circuit.model.name, _NAME), circuit.behaviour_name
    return f"{model}: a circuit" if behaviour is None else f"{plain(behaviour, _NAME)} in {model}"


def headline(circuit: Circuit) -> str:
    """One sentence: what was asked, and what came out."""
    model, evaluation = plain(circuit.model.name, _NAME), circuit.evaluation
    behaviour = "" if circuit.behaviour_name is None else f" for {plain(circuit.behaviour_name, _NAME)}"
    # Without its cost it was judged on something else since it was found.
    aim = "" if circuit.search is None or circuit.cost is None else _aim(circuit.search)
    asked = f"Asked for a circuit of {model}{behaviour} {aim}: found" if aim else f"A circuit of {model}{behaviour}:"
    asked = f"{asked} {_size_of(circuit)}"
    if evaluation is None:
        return f"{asked}. It has not been judged."
    held_out = evaluation.held_out
    interval = held_out.faithfulness_interval
    sure = "" if interval is None else f" ({interval.level:.0%} interval {between(interval)})"
    return (
        f"{asked}. On {held_out.n_prompts:,} held-out prompts its faithfulness is {held_out.faithfulness:.3f}{sure} "
        f"and it recovers {held_out.kl_recovered:.3f} of the KL divergence."
    )


def _aim(search: SearchRecord) -> str:
    """What a search was asked for; empty where that is not known."""
    if search.target_faithfulness is not None:
        return f"with {aim_of(search.objective)} {search.target_faithfulness:g}"
    size, threshold = search.settings.get("size"), search.settings.get("threshold")
    if isinstance(size, int):
        return f"with at most {_count(size, 'edge')}"
    return f"with the threshold {threshold:g}" if isinstance(threshold, int | float) else ""


def reservations(circuit: Circuit) -> list[str]:
    """What a reader should be told before believing the headline; empty when there is nothing to tell."""
    tests = () if circuit.evaluation is None else circuit.evaluation.tests
    rejected = [f"The test of {test.name} is against it. {plain(test.details)}" for test in tests if test.rejected]
    return [*(remark[:1].upper() + remark[1:] for remark in remarks(circuit)), *rejected]


def no_reservations(circuit: Circuit) -> str:
    """What was looked at when there are no reservations, and what was not."""
    evaluation, search = circuit.evaluation, circuit.search
    compared = evaluation is not None and evaluation.random_circuits is not None
    aimed = search is not None and search.target_faithfulness is not None
    looked = ["its faithfulness", *(["its target"] if aimed else []), "the model's outputs"]
    looked += ["random circuits"] if compared else []
    looked += ["tests"] if evaluation and evaluation.tests else []
    missing = "" if compared else " It was not compared with random circuits."
    return (
        f"Nothing is to be remarked on {', '.join(looked[:-1])} and {looked[-1]}, as far as held-out prompts tell."
        f"{missing}"
    )


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
    middle = f", middle half {quarter:.0%} to {three:.0%}" if len(values) >= _FEW else ""
    often, rarely = sum(value >= 0.9 for value in values), sum(value < 0.5 for value in values)
    weakest = ", ".join(f"{name} ({value:.0%})" for value, name in known[:3])
    return (
        f"median {median:.0%}{middle}; {often:,} of {len(values):,} edges at 90% or more, {rarely:,} below 50%. "
        f"Lowest: {weakest}"
    )


def origin(circuit: Circuit) -> dict[str, str]:
    """What it takes to find the circuit again besides the command: hashes, seed, checksum, machine, versions."""
    model, task, here = circuit.model, circuit.task, circuit.environment
    rows = {"weights, SHA-256": model.weights_hash, "revision on the hub": model.revision}
    if task is not None:
        discovery, plus, held_out = (task.prompts_hash or "").partition("+")  # of both splits, or of each
        hashes = {"discovery prompts, SHA-256": discovery, "held-out prompts, SHA-256": held_out}
        rows["task card, SHA-256"] = task.card_hash
        rows |= hashes if plus else {"prompts, SHA-256": task.prompts_hash}
        rows["seed"] = str(task.seed)
    rows["checksum, SHA-256 of the circuit"] = checksum_of(circuit.model_dump(mode="json"))
    if here is not None:
        rows["machine"] = f"{here.platform}, {here.device}, {here.dtype}, {_count(here.threads, 'thread')}"
        rows["made"] = here.created
        listed = [f"Python {here.python}", *(f"{name} {version}" for name, version in here.versions.items())]
        rows["versions"] = ", ".join(listed)
    return {name: plain(text, 2 * LONGEST) for name, text in rows.items() if text is not None}


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
    if circuit.ablation not in _ABLATIONS:
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
