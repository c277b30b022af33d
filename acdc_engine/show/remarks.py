"""What a reader should be told before believing a circuit's headline figure."""

from __future__ import annotations

from collections.abc import Iterator

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Evaluation, Figures, RandomCircuits, TemplateFigures
from acdc_engine.graph.looks import style_of, texts_of
from acdc_engine.graph.records import SearchRecord
from acdc_engine.show.figure_tables import NAME, aim_of, distance, objective_of
from acdc_engine.show.stopped import stop_remark
from acdc_engine.show.visible import plain

FAITHFUL = (0.8, 1.2)
"""Faithfulness of circuits that pass for faithful where no target was asked for."""
ROUNDING = 1e-6
"""Room at the ends of a band, as in `Target.met`."""
MOST_TEMPLATES = 3
"""Templates named in a sentence."""


def warning(circuit: Circuit) -> str:
    """Why a circuit must not be called faithful, whatever its faithfulness is; empty where nothing says so.

    Two things do: its output is farther from the model's than the ablated model's is (KL recovered is negative), or it
    gives the right answer less often than both the ablated model and the model.
    """
    if circuit.evaluation is None:
        return ""
    return evaluation_warning(circuit.evaluation, f" in {circuit.metric.name}" if circuit.metric else "")


def evaluation_warning(evaluation: Evaluation, metric: str = "") -> str:
    """`warning` from the evaluation alone; `metric` is what to say of the metric behind the faithfulness."""
    held_out = evaluation.held_out
    reasons = list(_against(held_out))
    if not reasons:
        return ""
    return (
        f"Not a faithful circuit, with a faithfulness of {held_out.faithfulness:.3f}{metric} on the held-out prompts: "
        f"{'; '.join(reasons)}.{_logits(held_out)}"
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
    stopped = stop_remark(circuit)
    out = [] if stopped is None else [stopped]
    if search is not None and target is not None:
        out += _missed(evaluation, search, target, searched_here=circuit.cost is not None)
    near = FAITHFUL[0] <= unseen.faithfulness <= FAITHFUL[1]
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
    if random is not None and random.p_value > 0.05 and not as_near(random):
        out.append(
            f"{len(random.faithfulness)} random circuits are too few to show that this one is better than chance (p "
            f"{random.p_value:.2g} although none is as near to 1): compare with at least 19 (--random)."
        )
    elif random is not None and random.p_value > 0.05:
        out.append(_no_better(random, unseen.faithfulness, "near to 1" if warning(circuit) else "faithful"))
    return out


def _missed(evaluation: Evaluation, search: SearchRecord, target: float, searched_here: bool) -> Iterator[str]:
    """That the target does not hold on the held-out prompts; what is said of the search depends on what it did."""
    there, here = (objective_of(search, figures) for figures in (evaluation.discovery, evaluation.held_out))
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
    low, high = FAITHFUL if target is None else (target, 2 - target)
    ordered = sorted(figures.templates, key=lambda template: -distance(template, objective))
    outside: list[TemplateFigures] = []
    for template in ordered:
        value = _value(template, objective)
        if value is None or not low - ROUNDING <= value <= high + ROUNDING:
            outside.append(template)
    if outside:
        values = [_value(template, objective) for template in outside[:MOST_TEMPLATES]]
        near = min((v for v in values if v is not None), key=lambda v: abs(1 - v), default=1.0)
        style = style_of([near, low if near < 1 else high])
        named = [
            f"{'undefined' if value is None else format(value, style)} on {plain(template.name, NAME)} "
            f"({template.n_prompts:,} prompts)"
            for value, template in zip(values, outside, strict=False)
        ]
        more = f" and {len(outside) - MOST_TEMPLATES:,} more" if len(outside) > MOST_TEMPLATES else ""
        lie = "lie" if len(outside) > 1 else "lies"
        yield (
            f"{len(outside)} of {len(ordered)} templates {lie} outside [{low:g}, {high:g}], which the mean over all "
            f"prompts does not show: {aim_of(objective)} {', '.join(named)}{more}."
        )


def _value(template: TemplateFigures, objective: str) -> float | None:
    return template.kl_recovered if objective == "kl" else template.faithfulness


def _within(value: float, target: float) -> bool:
    return target - ROUNDING <= value <= 2 - target + ROUNDING


def _band(target: float) -> str:
    return f"[{target:g}, {2 - target:g}]"


def _no_better(random: RandomCircuits, own: float, what: str) -> str:
    """That random circuits come as near to 1; where a side overshoots, this need not mean that they do the task."""
    counted = f"{as_near(random)} of {len(random.faithfulness)} random circuits of the same size"
    p = f"(p {random.p_value:.3g})"
    if own > FAITHFUL[1]:
        return (
            f"the circuit overshoots: its held-out faithfulness, {own:.3f}, is so far above 1 that {counted} come as "
            f"near to it {p}. That tells how far it overshoots, not that they do the task."
        )
    over = sum(FAITHFUL[1] < value <= 2 - own for value in random.faithfulness)
    how = f", {over} of them because they overshoot," if over else ""
    return f"{counted} are at least as {what}{how} {p}: this one is not shown to be better than chance."


def as_near(random: RandomCircuits) -> int:
    """Random circuits at least as near to 1: p is (1 + their number) / (1 + all)."""
    return round(random.p_value * (1 + len(random.faithfulness))) - 1
