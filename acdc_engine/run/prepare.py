"""From a task card, a model and settings to an experiment: what `discover`, `curve` and `tasks check` begin with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from acdc_engine.errors import ModelError
from acdc_engine.experiment import Experiment
from acdc_engine.graph.records import TaskRecord
from acdc_engine.model.load import load_model, load_tokenizer
from acdc_engine.model.view import TransformerView
from acdc_engine.patch.ablations import base_of
from acdc_engine.patch.evaluator import Evaluator
from acdc_engine.patch.memory import remembering
from acdc_engine.prompts.build import Splits, split_prompts
from acdc_engine.prompts.card import TaskCard, settled
from acdc_engine.prompts.check import Limits
from acdc_engine.prompts.metrics import Metric, aimed_at, check_objective, get_metric
from acdc_engine.run.progress import Reporter
from acdc_engine.run.settings import Settings
from acdc_engine.score import check_metric, get_method


def task_record(card: TaskCard, prompts: Splits, seed: int) -> TaskRecord:
    """What a circuit file says of a task and the prompts that were made from it."""
    from acdc_engine.provenance import prompts_hash

    return TaskRecord(
        name=card.name,
        card_hash=card.fingerprint(),
        prompts_hash=prompts_hash(prompts.discovery, prompts.held_out, prompts.validation),
        n_discovery=len(prompts.discovery),
        n_validation=0 if prompts.validation is None else len(prompts.validation),
        n_held_out=len(prompts.held_out),
        seed=seed,
        left_out=prompts.left_out,
    )


def metric_for(card: TaskCard, settings: Settings) -> Metric:
    """The metric of a run, which its method must be able to learn from.

    Raises:
        MetricError: It does not exist, or its gradient vanishes where the method looks.
    """
    metric = get_metric(settings.metric or card.metric)
    check_metric(aimed_at(metric, check_objective(settings.objective)), get_method(settings.method, settings.steps))
    return metric


def look_before_loading(card: TaskCard, model: Any, settings: Settings) -> None:
    """Makes the prompts with the model's tokenizer alone, so that what is wrong with them is found out at once.

    Raises:
        MethodError: `base` ablation of a model that has no base model.
        PromptError: As `split_prompts`.
    """
    if settings.ablation == "base":
        base_of(model)
    tokenizer = tokenizer_alone(model)
    if tokenizer is not None:
        splits_of(card, tokenizer, settings)


def tokenizer_alone(model: Any) -> Any:
    """The tokenizer of a model that is not loaded; None of one that is, or whose tokenizer cannot be had by itself."""
    if not isinstance(model, str | Path):
        return None
    try:
        return load_tokenizer(model)
    except ModelError:  # loading the model says why
        return None


def prepare(
    card: TaskCard, model: Any, settings: Settings, report: Reporter, evaluator: Callable[..., Evaluator] = remembering
) -> tuple[Experiment, TaskRecord]:
    """Loads the model and makes the prompts; errors are those of `load_model` and `prompts_of`."""
    metric = metric_for(card, settings)
    with report.stage("Loading the model"):
        view = load_model(
            model,
            device=settings.device,
            dtype=settings.dtype,
            ungroup_kv=settings.ungroup_kv,
            memory=settings.memory,
            device_map=settings.device_map,
            adapter=settings.adapter,
        )
    with report.stage("Prompts"):
        card, prompts = prompts_of(card, view, settings)
    for note in prompts.notes:
        report.note(note)
    lab = Experiment(
        view,
        prompts.discovery,
        prompts.held_out,
        validation=prompts.validation,
        metric=metric,
        ablation=settings.ablation,
        objective=settings.objective,
        each_template=settings.each_template,
        name=card.name,
        seed=settings.seed,
        batch_size=settings.batch_size,
        evaluator=evaluator,
    )
    return lab, task_record(card, prompts, settings.seed)


def prompts_of(card: TaskCard, view: TransformerView, settings: Settings) -> tuple[TaskCard, Splits]:
    """Makes the prompts of a run, and decides the card's beginning-of-sequence setting.

    Raises:
        ModelError: The model has no tokenizer.
        PromptError: As `split_prompts`.
    """
    tokenizer = tokenizer_of(view)
    card = settled(card, tokenizer, settings.prepend_bos)
    return card, _split(card, tokenizer, settings, limits_of(view))


def splits_of(card: TaskCard, tokenizer: Any, settings: Settings) -> Splits:
    """The prompts of a run of a model that is not loaded, with its tokenizer; errors are those of `split_prompts`."""
    return _split(settled(card, tokenizer, settings.prepend_bos), tokenizer, settings, None)


def tokenizer_of(view: TransformerView) -> Any:
    """The model's tokenizer.

    Raises:
        ModelError: It has none.
    """
    if view.tokenizer is None:
        raise ModelError(
            f"Model {view.name!r} came without a tokenizer, which task cards need. Load it with "
            "load_model(hf_model, tokenizer=...) and pass the view as model."
        )
    return view.tokenizer


def limits_of(view: TransformerView) -> Limits:
    """What prompts the model takes."""
    return Limits(view.max_positions, view.d_vocab_in, view.d_vocab)


def _split(card: TaskCard, tokenizer: Any, settings: Settings, limits: Limits | None) -> Splits:
    validates = settings.choice.parameters.minimal and settings.choice.aims
    found = split_prompts(
        card,
        tokenizer,
        settings.n,
        settings.n_held_out,
        settings.seed,
        n_validation=settings.n_validation if validates else 0,
        drop_misfits=settings.drop_misfits,
        limits=limits,
        where=settings.where,
    )
    if settings.repeats:
        from acdc_engine.evidence.repeats import check_halves

        check_halves(len(found.discovery), found.discovery.templates)
    return found
