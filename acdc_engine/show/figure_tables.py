"""The figures of a circuit as rows of text: as a whole, template by template, and what becomes of the answers."""

from __future__ import annotations

from dataclasses import dataclass

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import AnswerFigures, Evaluation, Figures, Interval, TemplateFigures
from acdc_engine.graph.looks import style_of
from acdc_engine.graph.records import SearchRecord
from acdc_engine.show.visible import plain

NAME = 40
"""Characters shown of a template's name."""


@dataclass(frozen=True)
class FigureRow:
    """A figure on both splits, as text; `between` is the interval of the held-out one, or empty."""

    label: str
    discovery: str
    held_out: str
    between: str


@dataclass(frozen=True)
class TemplateRow:
    """The figures of one template, as text; intervals are empty where there are too few prompts."""

    name: str
    prompts: str
    faithfulness: str
    between: str
    kl_recovered: str
    kl_between: str
    agreement: str


@dataclass(frozen=True)
class AnswerRow:
    """One figure of the answers under model, circuit and ablated model, as text."""

    label: str
    model: str
    circuit: str
    ablated: str


def aim_of(objective: str) -> str:
    """What a target is about, in words."""
    return "KL recovered" if objective == "kl" else "faithfulness"


def objective_of(search: SearchRecord, figures: Figures) -> float:
    """What the search's target is about."""
    return figures.kl_recovered if search.objective == "kl" else figures.faithfulness


def figure_rows(circuit: Circuit) -> list[FigureRow]:
    """The figures of a circuit's evaluation; empty without one."""
    if circuit.evaluation is None:
        return []
    discovery, held_out = sides = circuit.evaluation.discovery, circuit.evaluation.held_out
    metric = circuit.metric.name if circuit.metric else "metric"
    whole = "everything ablated" if circuit.ablation in ("mean", "zero") else "model on corrupt prompts"
    units = [value for side in sides for value in (side.metric_clean, side.metric_corrupt, side.metric_circuit)]
    unit = style_of(units)
    rows = [
        ("prompts", "n_prompts", "d"),
        ("faithfulness", "faithfulness", ".3f"),
        ("KL recovered", "kl_recovered", ".3f"),
        ("prompts judged as the model does", "agreement", ".1%"),
        ("normalised error", "normalised_error", ".3f"),
        (f"{metric}, model on clean prompts", "metric_clean", unit),
        (f"{metric}, {whole}", "metric_corrupt", unit),
        (f"{metric}, circuit", "metric_circuit", unit),
    ]
    if held_out.answers_clean is None:  # of an older file; elsewhere it stands among the answers, with what it means
        rows.append(("accuracy, model", "accuracy_clean", ".1%"))
    # Of the held-out prompts only: on those that the circuit was searched on an interval says nothing.
    intervals = {"faithfulness": held_out.faithfulness_interval, "kl_recovered": held_out.kl_interval}
    found = []
    for label, field, style in rows:
        seen, unseen = getattr(discovery, field), getattr(held_out, field)
        if seen is not None and unseen is not None:
            found.append(FigureRow(label, format(seen, style), format(unseen, style), between(intervals.get(field))))
    return found


def between(interval: Interval | None) -> str:
    """An interval's ends; empty without one."""
    return "" if interval is None else f"{interval.low:.3f} to {interval.high:.3f}"


def interval_level(circuit: Circuit) -> str:
    """What the column of intervals is called; empty where there are none."""
    held_out = None if circuit.evaluation is None else circuit.evaluation.held_out
    known = None if held_out is None else held_out.faithfulness_interval or held_out.kl_interval
    return "" if known is None else f"{known.level:.0%} interval"


def template_rows(evaluation: Evaluation, objective: str = "faithfulness") -> list[TemplateRow]:
    """The held-out figures of every template, the one farthest from the model first; empty where there is only one.

    Args:
        evaluation: Of a circuit.
        objective: What its target is about, "faithfulness" or "kl".
    """
    ordered = sorted(evaluation.held_out.templates, key=lambda template: -distance(template, objective))
    return [
        TemplateRow(
            name=plain(template.name, NAME),
            prompts=f"{template.n_prompts:,}",
            faithfulness="undefined" if template.faithfulness is None else f"{template.faithfulness:.3f}",
            between=between(template.faithfulness_interval),
            kl_recovered=f"{template.kl_recovered:.3f}",
            kl_between=between(template.kl_interval),
            agreement=f"{template.agreement:.1%}",
        )
        for template in ordered
    ]


def distance(template: TemplateFigures, objective: str) -> float:
    """How far a template is from the model, in the objective; infinite where that is not defined."""
    value = template.kl_recovered if objective == "kl" else template.faithfulness
    return float("inf") if value is None else abs(1 - value)


def answer_rows(evaluation: Evaluation) -> list[AnswerRow]:
    """What becomes of the answers on the held-out prompts; empty where there are none, or in an older file."""
    held_out = evaluation.held_out
    model, circuit, ablated = held_out.answers_clean, held_out.answers_circuit, held_out.answers_corrupt
    if model is None or circuit is None or ablated is None:
        return []
    runs = (model, circuit, ablated)
    logits = style_of([value for run in runs for value in (run.right_logit, run.wrong_logit) if value is not None])
    rows = (
        ("right answer above the wrong ones", "right_above_wrong", ".1%"),
        ("right answer is the most likely token", "most_likely", ".1%"),
        ("rank of the right answer, median", "median_rank", ",.6g"),
        ("mean logit of right answers", "right_logit", logits),
        ("mean logit of wrong answers", "wrong_logit", logits),
    )
    return [
        AnswerRow(label, *(_shown(run, field, style) for run in runs))
        for label, field, style in rows
        if _known(runs, field)
    ]


def ablated_name(circuit: Circuit) -> str:
    """What the column of the ablated model is called."""
    return "ablated" if circuit.ablation in ("mean", "zero") else "corrupt"


def _known(runs: tuple[AnswerFigures, ...], field: str) -> bool:
    return all(getattr(run, field) is not None for run in runs)


def _shown(run: AnswerFigures, field: str, style: str) -> str:
    return format(getattr(run, field), style)
