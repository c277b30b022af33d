"""What a reader should be told before believing a headline figure, and of a search that was stopped."""

from __future__ import annotations

from collections.abc import Iterator

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Evaluation, Figures, RandomCircuits, TemplateFigures
from acdc_engine.graph.records import SearchRecord, Unfinished
from acdc_engine.graph.result_records import Curve, CurveSeries
from acdc_engine.graph.style import style_of, texts_of
from acdc_engine.show.visible import plain

NAME = 40
"""Characters shown of a template's name."""
_FAITHFUL = (0.8, 1.2)
"""Faithfulness of circuits that pass for faithful where no target was asked for."""
_ROUNDING = 1e-6
"""Room at the ends of a band, as in `Target.met`."""
_MOST_TEMPLATES = 3
"""Templates named in a sentence."""
_POOR_KL = 0.5


def aim_of(objective: str) -> str:
    """What a target is about, in words."""
    return "KL recovered" if objective == "kl" else "faithfulness"


def _value_of(figures: Figures | TemplateFigures, objective: str) -> float | None:
    """The figure that a target is about; None where it is not defined."""
    return figures.kl_recovered if objective == "kl" else figures.faithfulness


def farthest_first(figures: Figures, objective: str) -> list[TemplateFigures]:
    """The templates, the one farthest from the model in the objective first, those where it is not defined before."""

    def distance(template: TemplateFigures) -> float:
        value = _value_of(template, objective)
        return float("inf") if value is None else abs(1 - value)

    return sorted(figures.templates, key=lambda template: -distance(template))


def warning(circuit: Circuit) -> str:
    """Why a circuit must not be called faithful, whatever its faithfulness is; empty where nothing says so.

    Two things do: its output is farther from the model's than the ablated model's is (KL recovered is negative), or it
    gives the right answer less often than both the ablated model and the model.
    """
    if circuit.evaluation is None:
        return ""
    return evaluation_warning(circuit.evaluation, f" in {plain(circuit.metric.name, NAME)}" if circuit.metric else "")


def evaluation_warning(evaluation: Evaluation, metric: str = "") -> str:
    """`warning` from the evaluation alone; `metric` is what to say of the metric behind the faithfulness."""
    held_out = evaluation.held_out
    reasons = "; ".join(_against(held_out))
    if not reasons:
        return ""
    return (
        f"Not a faithful circuit, with a faithfulness of {held_out.faithfulness:.3f}{metric} on the held-out prompts: "
        f"{reasons}.{_logits(held_out)}"
    )


def _against(figures: Figures) -> Iterator[str]:
    if figures.kl_recovered < -_ROUNDING:
        yield (
            f"KL recovered is {texts_of(figures.kl_recovered)[0]}, so its output is farther from the model's than that "
            "of the ablated model"
        )
    model, circuit, ablated = figures.answers_clean, figures.answers_circuit, figures.answers_corrupt
    if model is None or circuit is None or ablated is None:
        return
    if circuit.most_likely < min(model.most_likely, ablated.most_likely):
        yield (
            f"a right answer is its most likely token on {circuit.most_likely:.0%} of them, less often than in the "
            f"ablated model ({ablated.most_likely:.0%}; the model: {model.most_likely:.0%})"
        )


def _logits(figures: Figures) -> str:
    """The logits of right and wrong answers apart: a difference of two can be met by lowering the wrong one."""
    runs = figures.answers_clean, figures.answers_circuit, figures.answers_corrupt
    values = [value for run in runs if run for value in (run.right_logit, run.wrong_logit) if value is not None]
    if len(values) < 2 * len(runs):
        return ""
    right, wrong = values[::2], values[1::2]
    shown = texts_of(*values, decimals=2)
    pairs = [f"{name} {shown[2 * i]} and {shown[2 * i + 1]}" for i, name in enumerate(("model", "circuit", "ablated"))]
    lowered = right[1] <= right[2] and wrong[1] < wrong[2]
    how = " The circuit lowers the wrong answers and does not raise the right ones." if lowered else ""
    return f" Mean logits of right and wrong answers: {', '.join(pairs)}.{how}"


def remarks(circuit: Circuit) -> list[str]:
    """What else a reader should be told; empty when there is nothing to tell."""
    evaluation, search = circuit.evaluation, circuit.search
    if evaluation is None:
        return []
    unseen, target = evaluation.held_out, None if search is None else search.target_faithfulness
    out = [] if search is None or search.unfinished is None else [_stopped(circuit, search, search.unfinished)]
    if search is not None and target is not None:
        out += _missed(evaluation, search, target, searched_here=circuit.cost is not None)
    near = _FAITHFUL[0] <= unseen.faithfulness <= _FAITHFUL[1]
    if target is None and not near:
        out.append(
            f"a held-out faithfulness of {unseen.faithfulness:.3f} means that this circuit does not reproduce the "
            "behaviour. No target applies to a given size or threshold; --strategy iterative searches for one."
        )
    if target is not None or near:
        out += _uneven(unseen, search)
    if near and (unseen.kl_recovered < 0.5 or unseen.agreement < 0.8):
        out.append(
            f"the circuit fits the mean of the metric better than the model's outputs: KL recovered "
            f"{unseen.kl_recovered:.2f}, {unseen.agreement:.0%} of the held-out prompts judged as the model does."
        )
    random = evaluation.random_circuits
    if random is not None and random.p_value > 0.05:
        out.append(_no_better(random, unseen.faithfulness, "near to 1" if warning(circuit) else "faithful"))
    return out


def _missed(evaluation: Evaluation, search: SearchRecord, target: float, searched_here: bool) -> Iterator[str]:
    """That the target does not hold on the held-out prompts; what is said of the search depends on what it did."""
    there, here = (_value_of(side, search.objective) or 0.0 for side in (evaluation.discovery, evaluation.held_out))
    if _within(here, target):
        return
    shown = texts_of(here, target if here < 1 else 2 - target)[0]
    text = f"on held-out prompts the {aim_of(search.objective)}, {shown}, lies outside the target {_band(target)}"
    if not searched_here:
        yield f"{text} of the search that the circuit comes from. That search was on other prompts."
    elif _within(there, target):
        yield (
            f"{text} that the search met on the discovery prompts ({there:.3f}). More discovery prompts (--n) make the "
            "two agree better."
        )
    else:
        yield f"{text}; the search missed it on the discovery prompts too ({there:.3f})."


def _uneven(figures: Figures, search: SearchRecord | None) -> Iterator[str]:
    """Which templates lie outside the band; a mean over all of them hides it."""
    objective = "faithfulness" if search is None else search.objective
    target = None if search is None else search.target_faithfulness
    low, high = _FAITHFUL if target is None else (target, 2 - target)
    outside = []
    for template in farthest_first(figures, objective):
        value = _value_of(template, objective)
        if value is None or not low - _ROUNDING <= value <= high + _ROUNDING:
            outside.append((template, value))
    if not outside:
        return
    named = outside[:_MOST_TEMPLATES]
    near = min((value for _, value in named if value is not None), key=lambda value: abs(1 - value), default=1.0)
    style = style_of([near, low if near < 1 else high])
    said = [
        f"{'undefined' if value is None else format(value, style)} on {plain(template.name, NAME)} "
        f"({template.n_prompts:,} prompts)"
        for template, value in named
    ]
    more = f" and {len(outside) - _MOST_TEMPLATES:,} more" if len(outside) > _MOST_TEMPLATES else ""
    yield (
        f"{len(outside)} of {len(figures.templates)} templates {'lie' if len(outside) > 1 else 'lies'} outside "
        f"[{low:g}, {high:g}], which the mean over all prompts does not show: {aim_of(objective)} "
        f"{', '.join(said)}{more}."
    )


def _within(value: float, target: float) -> bool:
    return target - _ROUNDING <= value <= 2 - target + _ROUNDING


def _band(target: float) -> str:
    return f"[{target:g}, {2 - target:g}]"


def _no_better(random: RandomCircuits, own: float, what: str) -> str:
    """That random circuits come as near to 1; where a side overshoots, this need not mean that they do the task."""
    if not as_near(random):
        return (
            f"{len(random.faithfulness)} random circuits are too few to show that this one is better than chance (p "
            f"{random.p_value:.2g} although none is as near to 1): compare with at least 19 (--random)."
        )
    counted = f"{as_near(random)} of {len(random.faithfulness)} random circuits of the same size"
    p = f"(p {random.p_value:.3g})"
    if own > _FAITHFUL[1]:
        return (
            f"the circuit overshoots: its held-out faithfulness, {own:.3f}, is so far above 1 that {counted} come as "
            f"near to it {p}. That tells how far it overshoots, not that they do the task."
        )
    over = sum(_FAITHFUL[1] < value <= 2 - own for value in random.faithfulness)
    how = f", {over} of them because they overshoot," if over else ""
    return f"{counted} are at least as {what}{how} {p}: this one is not shown to be better than chance."


def as_near(random: RandomCircuits) -> int:
    """Random circuits at least as near to 1: p is (1 + their number) / (1 + all)."""
    return round(random.p_value * (1 + len(random.faithfulness))) - 1


def in_brief(search: SearchRecord) -> str:
    """For the line that names the search: that it was stopped; empty where it ended by itself."""
    return "" if search.unfinished is None else f"; {_when(search.unfinished)}, unfinished"


def untested(circuit: Circuit) -> str | None:
    """Why nothing is known of single edges, where a run left that out."""
    search = circuit.search
    if search is None or any(edge.effect is not None or edge.without is not None for edge in circuit.edges):
        return None
    if not search.edge_tests:
        return "not tested (--no-edge-tests): no effects, no certificate"
    if search.unfinished is not None:
        return "not all tested when the time was over: no effects, no certificate"
    return None


def _stopped(circuit: Circuit, search: SearchRecord, stop: Unfinished) -> str:
    go_on = "The same command goes on from there" + ("." if stop.minutes is None else ", for as long again.")
    return f"{_when(stop)}: {_so_far(circuit, search, stop)} {go_on}"


def _when(stop: Unfinished) -> str:
    if stop.minutes is None:
        return "interrupted"
    return f"stopped after {stop.minutes:g} minute{'' if stop.minutes == 1 else 's'}"


def _so_far(circuit: Circuit, search: SearchRecord, stop: Unfinished) -> str:
    target = search.target_faithfulness
    if stop.stage == "edge tests":
        proved = target is None or circuit.certificate is not None
        more = "their effects are not known" if proved else "some may be superfluous"
        return f"the search had ended, but not the tests of single edges: {more}."
    if target is None:
        return "the sweep had not ended; edges that it had not come to are all kept."
    if circuit.evaluation is not None:
        value = _value_of(circuit.evaluation.discovery, search.objective) or 0.0
        if not _within(value, target):
            return (
                f"the search had not ended, and nothing in the target {_band(target)} had been found. "
                f"This is the circuit nearest to it: {aim_of(search.objective)} {value:.3f} on the discovery prompts."
            )
    return "the search had not ended; smaller circuits may do as well."


def curve_remarks(curve: Curve) -> list[str]:
    """What a reader should be told before comparing numbers; empty when there is nothing to tell."""
    notes = [] if curve.complete else ["the run was interrupted: series are missing."]
    if not any(point.faithfulness_interval for series in curve.series for point in series.points):
        notes.append(
            f"no bootstrap intervals: {curve.task.n_held_out} held-out prompts are too few for them, or clean and "
            "ablated model differ too little on them. --n-held-out asks for more."
        )
    empty = [series.name for series in curve.series if any(not point.edges for point in series.points)]
    if empty:
        notes.append(
            f"the smallest sizes leave no path from input to logits ({'; '.join(empty)}). Such a circuit is the "
            "ablated model: faithfulness 0."
        )
    for series in curve.series:
        if misled := _misled(series, curve.target):
            notes.append(
                f"{series.name} at {', '.join(misled)}: near the model in the mean of the metric, yet less than half "
                "of the KL divergence is recovered."
            )
    if curve.model.n_kv_heads != curve.model.n_heads and not curve.model.ungrouped_kv:
        notes.append(
            "MIB counts a k and a v per query head, which this model shares. Add --ungroup-kv to compare with its "
            "numbers."
        )
    others = ", ".join(circuit.name for circuit in curve.circuits if not circuit.same_prompts)
    return notes + ([f"judged on other held-out prompts than the curves: {others}."] if others else [])


def _misled(series: CurveSeries, target: float) -> list[str]:
    return [
        f"{100 * point.requested_fraction:g} %"
        for point in series.points
        if target <= point.faithfulness <= 2 - target and point.kl_recovered < _POOR_KL
    ]
