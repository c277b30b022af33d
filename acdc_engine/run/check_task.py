"""Does a model do a task? Asked before anyone spends an hour on a circuit for it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc_engine.errors import AcdcError, MethodError, ModelError, TaskError
from acdc_engine.evaluation.answers import right_ranks
from acdc_engine.evaluation.shortcoming import Shortcoming, chance_of, shortcomings
from acdc_engine.models.devices import pick_device, pick_dtype
from acdc_engine.models.load import load_model
from acdc_engine.models.sources import DEFAULT_MODEL
from acdc_engine.models.view import TransformerView
from acdc_engine.patching import CircuitEvaluator
from acdc_engine.prompts.card import TaskCard
from acdc_engine.prompts.check import encode
from acdc_engine.prompts.find import find_task, known_tasks, log_broken
from acdc_engine.prompts.metrics import accuracy, get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.prompts.sample import count_pairs, sample_pairs, template_names
from acdc_engine.run.progress import Reporter, reporter_of

COUNTED = 10_000
"""Possible pairs are counted up to this."""


@dataclass(frozen=True)
class Figures:
    """The unpatched model on prompts of one template, or of all.

    Attributes:
        name: The template's name; "all".
        prompts: How many.
        right: Clean prompts on which a right answer comes before all wrong ones, or, where the task has no wrong ones,
            before all other tokens; None where it has no right answers.
        top: Clean prompts on which a right answer is the most likely token of all; None where it has none.
        rank: Median place of the right answer among the tokens that are none, 1 the most likely; None likewise.
        metric_clean: Mean metric on the clean prompts.
        metric_corrupt: Mean metric on the corrupt prompts.
    """

    name: str
    prompts: int
    right: int | None
    top: int | None
    rank: float | None
    metric_clean: float
    metric_corrupt: float


@dataclass(frozen=True)
class TaskCheck:
    """What was found about one task.

    Attributes:
        task: Its name.
        model: The model's.
        metric: The metric's.
        chance: Share of prompts that guessing would get right.
        whole: All prompts together.
        templates: Each template's, in the card's order.
        pairs: Different clean prompts that the task can make with this tokenizer, counted up to `COUNTED`.
        shortcomings: Why it is no task for this model; empty if the model does it.
        seconds: Time it took, without loading the model.
    """

    task: str
    model: str
    metric: str
    chance: float
    whole: Figures
    templates: tuple[Figures, ...]
    pairs: int
    shortcomings: tuple[Shortcoming, ...]
    seconds: float

    @property
    def does_it(self) -> bool:
        """Whether a circuit for this task in this model means something."""
        return not self.shortcomings


@dataclass(frozen=True)
class Unfit:
    """A task that cannot be asked of the model at all.

    Attributes:
        task: Its name.
        model: The model's.
        reason: Why.
    """

    task: str
    model: str
    reason: str


def check_tasks(
    tasks: Sequence[str | Path] = (),
    model: Any = DEFAULT_MODEL,
    *,
    n: int = 32,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "float32",
    batch_size: int = 16,
    prepend_bos: bool | None = None,
    progress: bool | Reporter = False,
) -> list[TaskCheck | Unfit]:
    """Runs a model on clean and corrupt prompts of tasks and says whether it does them.

    Args:
        tasks: Names or paths; none for every task there is a name for.
        model: As for `load_model`.
        n: Prompts per task, or as many as it has.
        seed: Of the prompts.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        dtype: Number format of the weights.
        batch_size: Prompts per run.
        prepend_bos: Overrides the tasks' setting.
        progress: Show progress on stderr, or on a reporter of one's own (`acdc_engine.run.progress`).

    Returns:
        One result per task, in their order. A task that does not fit the model is an `Unfit` where several were asked
        for.

    Raises:
        AcdcError: A bad setting, task or model, before anything is run; for a single task also that it does not fit.
    """
    for name, value in (("n", n), ("batch_size", batch_size)):
        if value < 1:
            raise MethodError(f"{name} must be at least 1, not {value}.")
    pick_device(device)
    pick_dtype(dtype)
    cards = _cards(tasks)
    report = reporter_of(progress)
    with report.stage("Loading the model"):
        view = load_model(model, device=device, dtype=dtype)
    found: list[TaskCheck | Unfit] = []
    for card in cards:
        if prepend_bos is not None:
            card = card.model_copy(update={"prepend_bos": prepend_bos})
        with report.stage(f"Checking {card.name}"):
            try:
                found.append(check_task(card, view, n=n, seed=seed, batch_size=batch_size))
            except AcdcError as error:
                if len(cards) == 1:
                    raise
                found.append(Unfit(card.name, view.name, str(error)))
    return found


def check_task(card: TaskCard, view: TransformerView, *, n: int = 32, seed: int = 0, batch_size: int = 16) -> TaskCheck:
    """Runs a loaded model on clean and corrupt prompts of one task.

    Args:
        card: The task.
        view: The model.
        n: Prompts, or as many as the task has; the templates in turn.
        seed: Of the prompts.
        batch_size: Prompts per run.

    Raises:
        PromptError: The task does not fit the model's tokenizer.
        ModelError: The model has no tokenizer, or does not give finite numbers.
    """
    if view.tokenizer is None:
        raise ModelError(
            f"Model {view.name!r} came without a tokenizer, which tasks need. Load it with "
            "load_model(hf_model, tokenizer=...)."
        )
    started = time.perf_counter()
    drafts = sample_pairs(card, view.tokenizer, n, seed)
    prompts = encode(drafts, view.tokenizer, card.name, card.prepend_bos)
    metric = get_metric(card.metric)
    evaluator = CircuitEvaluator(view, prompts, "patch", batch_size)
    placed, logits = prompts.to(view.device), evaluator.clean_logits()
    clean = metric(logits, placed, logits).float().cpu()
    corrupt = metric(evaluator.ablated_logits(), placed, logits).float().cpu()
    right = _Answered.of(logits, placed) if placed.answers.shape[1] else None
    chance = chance_of(prompts, view.d_vocab)
    names = [draft.pair.template for draft in drafts]
    in_order = [name for name in template_names(card) if name in names] or sorted(set(names))
    rows = {name: torch.tensor([other == name for other in names]) for name in in_order}
    whole = _figures("all", torch.ones(len(names), dtype=torch.bool), clean, corrupt, right)
    return TaskCheck(
        task=card.name,
        model=view.name,
        metric=metric.name,
        chance=chance,
        whole=whole,
        templates=tuple(_figures(name, chosen, clean, corrupt, right) for name, chosen in rows.items()),
        pairs=count_pairs(card, view.tokenizer, COUNTED),
        shortcomings=tuple(shortcomings(whole.right, chance, clean, corrupt, metric.name)),
        seconds=time.perf_counter() - started,
    )


def _cards(tasks: Sequence[str | Path]) -> list[TaskCard]:
    """The tasks asked for, or all; what cannot be found is listed at once."""
    if not tasks:
        every = known_tasks()
        log_broken(every.broken)
        return [known.card for known in every.tasks.values()]
    cards, problems = [], []
    for task in tasks:
        try:
            cards.append(find_task(task))
        except TaskError as error:
            problems.append(str(error))
    if problems:
        raise TaskError("\n".join(problems))
    return cards


@dataclass(frozen=True)
class _Answered:
    """How each clean prompt is answered, on the CPU: right before wrong ones, and the right one's place among all."""

    above: Bool[Tensor, "n"]
    ranks: Int[Tensor, "n"]

    @staticmethod
    def of(logits: Float[Tensor, "n d_vocab"], prompts: PromptSet) -> "_Answered":
        return _Answered(accuracy(logits, prompts).cpu(), right_ranks(logits, prompts).cpu())


def _figures(
    name: str,
    chosen: Bool[Tensor, "n"],
    clean: Float[Tensor, "n"],
    corrupt: Float[Tensor, "n"],
    right: "_Answered | None",
) -> Figures:
    return Figures(
        name=name,
        prompts=int(chosen.sum()),
        right=None if right is None else int(right.above[chosen].sum()),
        top=None if right is None else int((right.ranks[chosen] == 1).sum()),
        rank=None if right is None else float(right.ranks[chosen].double().quantile(0.5)),
        metric_clean=float(clean[chosen].mean()),
        metric_corrupt=float(corrupt[chosen].mean()),
    )
