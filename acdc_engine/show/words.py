"""Sentences about a circuit: where it comes from, what came out, and what speaks for it and against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_file import checksum_of
from acdc_engine.graph.evidence_records import Certificate, Evaluation, Interval
from acdc_engine.graph.records import Cost, SearchRecord
from acdc_engine.show.remarks import aim_of, as_near, in_brief, remarks, untested
from acdc_engine.show.visible import plain

LONGEST = 600
"""Characters shown of a text."""
NAME = 120
"""Characters shown of a name."""
_FEW = 8
"""Values that have no quartiles to speak of."""
ABLATIONS_IN_WORDS = {
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
        "Circuit": size_of(circuit),
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
        what = ABLATIONS_IN_WORDS.get(circuit.ablation)  # none of a package of others
        rows["Ablation"] = circuit.ablation + (f": {what}" if what else "")
    rows |= {"Source": circuit.source, "Rule": circuit.rule, "Made by": circuit.made_by}
    rows["Cost"] = None if circuit.cost is None else cost_of(circuit.cost)
    return {name: plain(text, LONGEST) for name, text in rows.items() if text is not None}


def size_of(circuit: Circuit) -> str:
    """How many of the edges and nodes it has."""
    layout = circuit.layout()
    return (
        f"{len(circuit.edges):,} of {layout.n_edges:,} edges, {len(circuit.nodes):,} of {layout.n_senders + 1:,} nodes"
    )


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _settings(settings: Mapping[str, object]) -> str:
    return f" ({', '.join(f'{key} {value}' for key, value in settings.items())})" if settings else ""


def cost_of(cost: Cost, *, stages: bool = False) -> str:
    """What a circuit took; files from before passes were counted tell time as passes.

    Args:
        cost: Of a circuit.
        stages: Also the time of processors, and the dearest stages, in passes: everything is counted, so those left
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
    """Random circuits, completeness and tests, as far as there are any.

    Args:
        evaluation: Of a circuit.
        size: Its edges, where they are known.
    """
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
    model, behaviour = plain(circuit.model.name, NAME), circuit.behaviour_name
    return f"{model}: a circuit" if behaviour is None else f"{plain(behaviour, NAME)} in {model}"


def headline(circuit: Circuit) -> str:
    """One sentence: what was asked, and what came out."""
    model, evaluation = plain(circuit.model.name, NAME), circuit.evaluation
    behaviour = "" if circuit.behaviour_name is None else f" for {plain(circuit.behaviour_name, NAME)}"
    # Without its cost it was judged on something else since it was found.
    aim = "" if circuit.search is None or circuit.cost is None else _aim(circuit.search)
    asked = f"Asked for a circuit of {model}{behaviour} {aim}: found" if aim else f"A circuit of {model}{behaviour}:"
    asked = f"{asked} {size_of(circuit)}"
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
