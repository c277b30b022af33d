"""What else a reader should be told of a circuit or a curve before believing its figures."""

from __future__ import annotations

from collections.abc import Iterator

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import LARGEST, Evaluation, Figures, RandomCircuits
from acdc_engine.graph.records import SearchRecord, Unfinished, Validated
from acdc_engine.graph.result_records import Curve, CurveSeries
from acdc_engine.graph.style import style_of, texts_of
from acdc_engine.show.visible import plain
from acdc_engine.show.words import NAME, ROUNDING, aim_of, as_near, farthest_first, value_of, when_of

_FAITHFUL = (0.8, 1.2)
"""Faithfulness of circuits that pass for faithful where no target was asked for."""
_MOST_TEMPLATES = 3
"""Templates named in a sentence."""
_POOR_KL = 0.5
_MORE = "More discovery prompts (--n) and validation prompts (--n-validation) help."


def warning(of: Circuit | Evaluation) -> str:
    """Why a circuit must not be called faithful, whatever its faithfulness is; empty where nothing says so.

    Two things do: its output is farther from the model's than the ablated model's is (KL recovered is negative), or it
    gives the right answer less often than both the ablated model and the model.
    """
    evaluation = of.evaluation if isinstance(of, Circuit) else of
    metric = f" in {plain(of.metric.name, NAME)}" if isinstance(of, Circuit) and of.metric else ""
    if evaluation is None or not (reasons := "; ".join(_against(evaluation.held_out))):
        return ""
    held_out = evaluation.held_out
    return (
        f"Not a faithful circuit, with a faithfulness of {held_out.faithfulness:.3f}{metric} on the held-out prompts: "
        f"{reasons}.{_logits(held_out)}"
    )


def _against(figures: Figures) -> Iterator[str]:
    if figures.kl_recovered < -ROUNDING:
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
        if search.kept is not None and not _within(search.kept.value, target):
            out.append(_not_validated(search, search.kept, target))
        elif search.kept is not None and len(circuit.edges) > LARGEST:
            out.append(
                "the behaviour is spread over the graph: the circuit is as many of the strongest edges as meet the "
                "target on the validation prompts, none was tested by itself, and many may not be needed. Circuits are "
                "smaller where the corruption changes fewer tokens."
            )
        out += _missed(evaluation, search, target, searched_here=circuit.cost is not None)
    near = _FAITHFUL[0] <= unseen.faithfulness <= _FAITHFUL[1]
    if target is None and not near:
        out.append(
            f"a held-out faithfulness of {unseen.faithfulness:.3f} means that this circuit does not reproduce the "
            "behaviour. No target applies to a given size or threshold; --strategy iterative searches for one."
        )
    if target is not None or near:
        out += _uneven(unseen, search)
    if near and (unseen.kl_recovered < _POOR_KL or unseen.agreement < 0.8):
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
    aim = aim_of(search)
    there, here = (value_of(side, aim) or 0.0 for side in (evaluation.discovery, evaluation.held_out))
    if _within(here, target):
        return
    shown = texts_of(here, target if here < 1 else 2 - target)[0]
    text = f"on held-out prompts the {aim}, {shown}, lies outside the target {_band(target)}"
    if not searched_here:
        yield f"{text} of the search that the circuit comes from. That search was on other prompts."
    elif search.kept is not None:
        if _within(search.kept.value, target):  # else it is said already
            yield f"{text} that the search met on the validation prompts ({search.kept.value:.3f}). {_MORE}"
    elif _within(there, target):
        yield (
            f"{text} that the search met on the discovery prompts ({there:.3f}). More discovery prompts (--n) make the "
            "two agree better."
        )
    else:
        yield f"{text}; the search missed it on the discovery prompts too ({there:.3f})."


def _not_validated(search: SearchRecord, kept: Validated, target: float) -> str:
    """That the target does not hold on the validation prompts."""
    return (
        f"on the validation prompts the {aim_of(search)}{' in one template' * search.each_template}, {kept.value:.3f}, "
        f"lies outside the target {_band(target)}. {_MORE}"
    )


def _uneven(figures: Figures, search: SearchRecord | None) -> Iterator[str]:
    """Which templates lie outside the band; a mean over all of them hides it."""
    target = _FAITHFUL[0] if search is None or search.target_faithfulness is None else search.target_faithfulness
    aim = aim_of(search)
    valued = [(template, value_of(template, aim)) for template in farthest_first(figures, aim)]
    outside = [(template, value) for template, value in valued if value is None or not _within(value, target)]
    if not outside:
        return
    named = outside[:_MOST_TEMPLATES]
    near = min((value for _, value in named if value is not None), key=lambda value: abs(1 - value), default=1.0)
    style = style_of([near, target if near < 1 else 2 - target])
    said = [
        f"{'undefined' if value is None else format(value, style)} on {plain(template.name, NAME)} "
        f"({template.n_prompts:,} prompts)"
        for template, value in named
    ]
    more = f" and {len(outside) - _MOST_TEMPLATES:,} more" if len(outside) > _MOST_TEMPLATES else ""
    each = search is not None and search.each_template
    unseen = "although each was to lie in it" if each else "which the mean over all prompts does not show"
    others = "A search with 8 discovery prompts or more of each (--n) holds to each."
    advice = _MORE if each else others
    yield (
        f"{len(outside)} of {len(figures.templates)} templates {'lie' if len(outside) > 1 else 'lies'} outside "
        f"{_band(target)}, {unseen}: {aim} {', '.join(said)}{more}. {advice}"
    )


def _within(value: float, target: float) -> bool:
    return target - ROUNDING <= value <= 2 - target + ROUNDING


def _band(target: float) -> str:
    return f"[{target:g}, {2 - target:g}]"


def _no_better(random: RandomCircuits, own: float, what: str) -> str:
    """That random circuits come as near to 1; where it overshoots, this does not mean that they do the task."""
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
    return f"{counted} are at least as {what} {p}: this one is not shown to be better than chance."


def _stopped(circuit: Circuit, search: SearchRecord, stop: Unfinished) -> str:
    """What a search that was stopped had come to."""
    target, value = search.target_faithfulness, None
    if stop.stage == "repeats":
        made, asked = (circuit.repeats.made, circuit.repeats.asked) if circuit.repeats else (0, 0)
        return f"{when_of(stop)}: the circuit is there, and {made} of {asked} repeats of its search. {_goes_on(stop)}"
    if circuit.evaluation is not None:
        value = value_of(circuit.evaluation.discovery, aim_of(search)) or 0.0
    if stop.stage == "edge tests":
        proved = target is None or circuit.certificate is not None
        more = "their effects are not known" if proved else "some may be superfluous"
        so_far = f"the search had ended, but not the tests of single edges: {more}."
    elif target is None:
        so_far = "the sweep had not ended; edges that it had not come to are all kept."
    elif value is None or _within(value, target):
        so_far = "the search had not ended; smaller circuits may do as well."
    else:
        so_far = (
            f"the search had not ended, and nothing in the target {_band(target)} had been found. "
            f"This is the circuit nearest to it: {aim_of(search)} {value:.3f} on the discovery prompts."
        )
    return f"{when_of(stop)}: {so_far} {_goes_on(stop)}"


def _goes_on(stop: Unfinished) -> str:
    return "The same command goes on from there" + ("." if stop.minutes is None else ", for as long again.")


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
