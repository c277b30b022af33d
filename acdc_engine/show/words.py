"""Sentences about a circuit: where it comes from, what speaks for and against it, what to read before its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from acdc_engine.display import counted, meaning_of
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import (
    LARGEST,
    Certificate,
    Evaluation,
    Figures,
    Interval,
    RandomCircuits,
    TemplateFigures,
)
from acdc_engine.graph.further_records import Inner
from acdc_engine.graph.records import Cost, SearchRecord, Unfinished
from acdc_engine.show.visible import plain

LONGEST = 600
"""Characters shown of a text."""
NAME = 40
"""Characters shown of the name of a template or metric."""
_ABLATIONS = {
    "patch": "edges outside the circuit carry the corrupt run's activations",
    "mean": "edges outside the circuit carry the mean over prompts",
    "zero": "edges outside the circuit carry zero",
    "base": "edges outside the circuit carry what the base model writes on the same prompt; corrupt means that alone",
}
"""Here and not from their register, which needs torch: `acdc show` answers at once."""
AIMS = {"faithfulness": "faithfulness", "kl": "KL recovered", "prompts": "recovered prompt by prompt"}
"""What targets are about, in words."""
ROUNDING = 1e-6
"""Room at the ends of a band, as in `Target.met`."""
_LOW = 0.9  # of the band where no target was asked for
_MOST_EDGES = 4  # named in a sentence


def facts(circuit: Circuit, *, explained: bool = False) -> dict[str, str]:
    """Where a circuit comes from and how it was found, as labels and texts; what is not known is left out.

    `explained` adds what the names of metric, scores, search and ablation mean, in the words of their registers, which
    takes torch; names of other tools have no meaning here.
    """
    model, task, metric, search = circuit.model, circuit.task, circuit.metric, circuit.search
    attribution, ablation = circuit.attribution, circuit.ablation
    groups = "" if model.n_kv_heads == model.n_heads else f", {model.n_kv_heads} k/v heads"
    split = " (k and v taken apart)" if model.ungrouped_kv else ""
    kind = f"{model.architecture}, " if model.architecture else ""
    layers, heads = counted(model.n_layers, "layer"), counted(model.n_heads, "head")
    rows: dict[str, str | None] = {
        "Circuit": size_of(circuit),
        "Model": f"{model.name}: {kind}{layers}, {heads}{groups}{split}",
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
    if attribution is not None:
        rows["Scores"] = attribution.method + _settings(attribution.settings)
    if search is not None:
        stopped, stop = "", search.unfinished
        if stop is not None:
            stopped = f"; {'its repeats ' if stop.stage == 'repeats' else ''}{when_of(stop)}, unfinished"
        rows["Search"] = search.strategy + _settings(search.settings) + stopped
        if search.target_faithfulness is not None:
            rows["Target"] = _target(search, search.target_faithfulness, 0 if task is None else task.n_validation)
    if circuit.inner is not None:
        rows["Around"] = _inner(circuit.inner)
    if ablation is not None:
        rows["Ablation"] = ablation + (f": {_ABLATIONS[ablation]}" if ablation in _ABLATIONS else "")
    rows |= {"Source": circuit.source, "Rule": circuit.rule, "Made by": circuit.made_by}
    rows["Cost"] = None if circuit.cost is None else cost_of(circuit.cost)
    names = {
        "Metric": ("metric", metric and metric.name),
        "Scores": ("scoring method", attribution and attribution.method),
        "Search": ("strategy", search and search.strategy),
        "Ablation": ("ablation", ablation not in _ABLATIONS and ablation),
    }
    found = {name: plain(text, LONGEST) for name, text in rows.items() if text is not None}
    for label, (kind, name) in names.items() if explained else ():
        if name and (meaning := meaning_of(kind, name)):
            found[label] += f": {plain(meaning)}"
    return found


def edges_in_words(circuit: Circuit) -> str:
    """Such as `79 edges`, or with places `79 edges at 3 places`."""
    text = counted(len(circuit.edges), "edge")
    return text if circuit.spans is None else f"{text} at {counted(len({e.span for e in circuit.edges}), 'place')}"


def size_of(circuit: Circuit) -> str:
    """How many of the edges and nodes it has."""
    layout, n_edges = circuit.graph(), f"{len(circuit.edges):,}"
    if circuit.spans is not None:
        places = {edge.span for edge in circuit.edges}
        return (
            f"{n_edges} of {layout.n_edges:,} edges at places, {counted(len(circuit.nodes), 'node')} at "
            f"{len(places)} of {layout.n_spans} places"
        )
    return f"{n_edges} of {layout.n_edges:,} edges, {len(circuit.nodes):,} of {layout.n_senders + 1:,} nodes"


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
        f"{counted(cost.exact_evaluations, 'circuit')} run exactly{listed}"
    )


def between(interval: Interval | None) -> str:
    """An interval's ends; empty without one."""
    return "" if interval is None else f"{interval.low:.3f} to {interval.high:.3f}"


def two(value: float | None) -> str:
    """Two decimals, and no minus before a zero; a dash where there is no number."""
    return "-" if value is None else f"{round(value, 2) + 0.0:.2f}"


def ends_of(interval: Interval | None) -> str:
    """The ends of an interval in brackets, with two decimals; empty without one."""
    return "" if interval is None else f"[{two(interval.low)}, {two(interval.high)}]"


def with_ends(value: float | None, interval: Interval | None, apart: str = " ") -> str:
    """A figure and the ends of its interval, where it has one."""
    return f"{two(value)}{apart}{ends_of(interval)}".rstrip()


def range_of(values: Sequence[float]) -> str:
    """The lowest and the highest of some figures."""
    return f"{two(min(values))} to {two(max(values))}"


def _target(search: SearchRecord, target: float, n_validation: int) -> str:
    """What a search aimed at, and what came out on prompts that it did not see."""
    text = f"{aim_of(search)} {target:g} {'in each template' if search.each_template else 'on the discovery prompts'}"
    if search.kept is None:
        return text
    aim = "" if search.aim is None else f"; aimed at {search.aim:g} there"
    if search.corrections:
        aim += f" after correction by validation prompts ({', '.join(f'{one:+.2f}' for one in search.corrections)})"
    return f"{text}{aim}, to hold on {n_validation:,} validation prompts too, where it is {search.kept.value:.3f}"


def _inner(inner: Inner) -> str:
    """Which circuit the search went around."""
    whence = "" if inner.source is None else f" of {inner.source}"
    target = ""
    if inner.objective is not None and inner.target_faithfulness is not None:
        target = f", searched for {AIMS[inner.objective]} {inner.target_faithfulness:g}"
    return (
        f"the {counted(len(inner.edges), 'edge')}{whence}{target} (checksum {inner.checksum[:8]}): it has all of them"
    )


def aim_of(search: SearchRecord | Certificate | None) -> str:
    """What a target is about, in words."""
    return "faithfulness" if search is None else AIMS[search.objective]


def value_of(figures: Figures | TemplateFigures, aim: str) -> float | None:
    """The figure that a target is about; None where it is not defined."""
    if aim == AIMS["prompts"]:
        return figures.prompts_recovered
    return figures.kl_recovered if aim == AIMS["kl"] else figures.faithfulness


def farthest_first(figures: Figures, aim: str) -> list[TemplateFigures]:
    """The templates, the one farthest from the model in that figure first, those where it is not defined before."""

    def distance(template: TemplateFigures) -> float:
        value = value_of(template, aim)
        return float("inf") if value is None else abs(1 - value)

    return sorted(figures.templates, key=lambda template: -distance(template))


def evidence_of(of: Circuit | Evaluation) -> dict[str, str]:
    """Certificate, random circuits, necessity in the model and tests, as far as there are any."""
    rows: dict[str, str] = {}
    alike, evaluation = "of the same size", of.evaluation if isinstance(of, Circuit) else of
    if isinstance(of, Circuit):
        alike = f"with {counted(len(of.edges), 'edge')} each"
        if of.certificate is not None:
            corrected = of.search is not None and bool(of.search.corrections)
            rows["certificate"] = _certificate(of.certificate, corrected)
        if (why := _untested(of)) is not None:
            rows["single edges"] = why
    if evaluation is None:
        return rows
    random = evaluation.random_circuits
    if random is not None:
        values = [round(value, 3) + 0.0 for value in random.faithfulness]  # no minus before a zero
        rows["random circuits"] = (
            f"{len(values)} {alike}: faithfulness {min(values):.3f} to {max(values):.3f}, mean "
            f"{sum(values) / len(values):.3f}; {as_near(random) or 'none'} as near to 1 as this one (p "
            f"{random.p_value:.2g})"
        )
    rows |= _necessity(of, evaluation)
    for test in evaluation.tests:
        verdict = "REJECTED" if test.rejected else "not rejected"
        rows[test.name] = f"{verdict} (p {test.p_adjusted:.2g}, corrected). {plain(test.details)}"
    return rows


def _necessity(of: Circuit | Evaluation, evaluation: Evaluation) -> dict[str, str]:
    """What the whole model does without the circuit's edges: together, and one by one."""
    rows, rest, alone = {}, evaluation.completeness, evaluation.indispensable
    search = of.search if isinstance(of, Circuit) else None
    target = None if search is None else search.target_faithfulness
    aim, low = aim_of(search), _LOW if target is None else target
    if rest is not None:
        these = f"these {len(of.edges):,} edges" if isinstance(of, Circuit) else "the circuit's edges"
        seen = "" if rest.discovery is None else f" ({rest.discovery:.3f} on the discovery prompts)"
        left = rest.kl_recovered if aim == "KL recovered" else rest.faithfulness
        verdict = "jointly necessary" if left < low - ROUNDING else "not jointly necessary: the rest does the task too"
        rows["joint necessity"] = (
            f"the model without {these} together has faithfulness {rest.faithfulness:.3f}{seen} and KL recovered "
            f"{rest.kl_recovered:.3f}: {verdict}"
        )
    if alone is not None:
        tried, lost = len(alone.without), alone.edges
        what = "KL recovered" if alone.objective == "kl" else "faithfulness"
        named = [f"{name} {alone.without[name]:.3f}" for name in sorted(lost, key=alone.without.__getitem__)]
        more = ", ..." if len(named) > _MOST_EDGES else ""
        which = f": {', '.join(named[:_MOST_EDGES])}{more}" if named else ""
        rows["indispensable"] = (
            f"{len(lost)} of the {tried} edges tried, largest |score| first: without one of them alone the model's "
            f"{what} is below {alone.low:g}{which}"
        )
    return rows


def _certificate(found: Certificate, corrected: bool) -> str:
    band = f"[{found.low:g}, {found.high:g}]"
    value = f"{aim_of(found)} {found.value:.3f} on the discovery prompts"
    notes = ["corrected by validation prompts"] * corrected + ["of the template farthest from 1"] * found.each_template
    if notes:
        value += f" ({', '.join(notes)})"
    inner = found.inner_edges
    if found.minimal and inner:
        return (
            f"1-minimal around the inner circuit: {value} lies in {band}, and without any one edge beyond its "
            f"{inner:,} it does not; these were not tried for removal"
        )
    if found.minimal:
        return f"1-minimal, no edge can go: {value} lies in {band}, and without any one edge it does not"
    return f"not 1-minimal: {value}; it leaves {band}, or stays in it without some edge"


def _untested(circuit: Circuit) -> str | None:
    """Why nothing is known of single edges, where a run left that out."""
    search = circuit.search
    if search is None or any(edge.effect is not None or edge.without is not None for edge in circuit.edges):
        return None
    if not search.edge_tests:
        return "not tested (--no-edge-tests): no effects, no certificate"
    if search.unfinished is not None and search.unfinished.stage != "repeats":
        return "not all tested when the time was over: no effects, no certificate"
    if search.target_faithfulness is not None and len(circuit.edges) > LARGEST:
        return "not tested, there are too many: no effects, no certificate"
    return None


def as_near(random: RandomCircuits) -> int:
    """Random circuits at least as near to 1: p is (1 + their number) / (1 + all)."""
    return round(random.p_value * (1 + len(random.faithfulness))) - 1


def when_of(stop: Unfinished) -> str:
    """When a search was stopped."""
    if stop.minutes is None:
        return "interrupted"
    return f"stopped after {stop.minutes:g} minute{'' if stop.minutes == 1 else 's'}"
