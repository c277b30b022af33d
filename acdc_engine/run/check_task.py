"""Does a model do a task, and what does it look like to it? Asked before anyone spends an hour on a circuit."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.errors import AcdcError, MethodError, PromptError, TaskError, TooFewPairsError
from acdc_engine.evidence.figures import Shortcoming, chance_of, right_ranks, shortcomings
from acdc_engine.graph.records import LeftOutRecord
from acdc_engine.model.find import DEFAULT_MODEL
from acdc_engine.model.layers import read_positions
from acdc_engine.model.load import load_model, load_tokenizer
from acdc_engine.model.refusals import check_finite
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.build import DEFAULT_SIZES
from acdc_engine.prompts.card import TaskCard, settled
from acdc_engine.prompts.check import Example, Rules, check, encode, examples
from acdc_engine.prompts.drafts import count_pairs, sample_pairs, template_names
from acdc_engine.prompts.find import find_task, known_tasks
from acdc_engine.prompts.metrics import accuracy, as_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.prompts.template import Draft
from acdc_engine.registers import log_broken
from acdc_engine.run.prepare import limits_of, look_before_loading, prompts_of, tokenizer_of
from acdc_engine.run.progress import Reporter, reporter_of
from acdc_engine.run.settings import Settings, command_of

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
        shortcomings: Why it is no task for this model; empty if the model does it.
        pairs: Different clean prompts that the task can make with this tokenizer, counted up to `COUNTED`.
        sizes: Discovery and held-out pairs that `discover` uses unless told otherwise; None if it can give none.
        notes: What a reader should know of the pairs, and which setting would help.
        command: Finds the circuit; None if it is no task for this model.
        left_out: Pairs that do not fit the model.
        seconds: Time it took, without loading the model.
    """

    task: str
    model: str
    metric: str
    chance: float
    whole: Figures
    templates: tuple[Figures, ...]
    shortcomings: tuple[Shortcoming, ...]
    pairs: int = 0
    sizes: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()
    command: str | None = None
    left_out: LeftOutRecord | None = None
    seconds: float = 0.0

    @property
    def does_it(self) -> bool:
        """Whether a circuit for this task in this model means something."""
        return not self.shortcomings


@dataclass(frozen=True)
class Unfit:
    """A task that cannot be asked of the model at all, and why."""

    task: str
    model: str
    reason: str


def check_tasks(
    tasks: Sequence[str | Path] = (),
    model: Any = DEFAULT_MODEL,
    *,
    n: int = 32,
    progress: bool | Reporter = False,
    **settings: Any,
) -> list[TaskCheck | Unfit]:
    """Runs a model on clean and corrupt prompts of tasks and says whether it does them.

    Args:
        tasks: Names or paths; none for every task there is a name for.
        model: As for `load_model`.
        n: Prompts per task, or as many as it has.
        progress: Show progress on stderr, or on a reporter of one's own (`acdc_engine.run.progress`).
        **settings: `seed`, `device`, `dtype`, `device_map`, `adapter`, `batch_size`, `prepend_bos` and `drop_misfits`,
            as in `Settings`.

    Returns:
        One result per task, in their order. A task that does not fit the model is an `Unfit` where several were asked
        for.

    Raises:
        AcdcError: A bad setting, task or model, before anything is run; for a single task also that it does not fit.
    """
    chosen = replace(Settings.of({**settings, "n": n}), n=None)
    report = reporter_of(progress)
    with report.stage("Reading the task" if len(tasks) == 1 else "Reading the tasks"):
        cards = _cards(tasks)
        if len(cards) == 1:
            with suppress(TooFewPairsError):  # said with the figures
                look_before_loading(cards[0], model, chosen)
    with report.stage("Loading the model"):
        view = load_model(
            model, device=chosen.device, dtype=chosen.dtype, device_map=chosen.device_map, adapter=chosen.adapter
        )
    found: list[TaskCheck | Unfit] = []
    for i, card in enumerate(cards):
        with report.stage(f"Checking {card.name}", n) as stage:
            try:
                checked = check_task(card, view, n=n, told=stage.advance, **settings)
            except AcdcError as error:
                if len(cards) == 1:
                    raise
                found.append(Unfit(card.name, view.name, str(error)))
                continue
        if checked.does_it and checked.sizes is not None:
            usual = checked.sizes == DEFAULT_SIZES
            same = chosen if usual else replace(chosen, n=checked.sizes[0], n_held_out=checked.sizes[1])
            checked = replace(checked, command=command_of(tasks[i] if tasks else card.name, model, same))
        found.append(checked)
    return found


def check_task(
    card: TaskCard, view: TransformerView, *, n: int = 32, told: Callable[[int], None] | None = None, **settings: Any
) -> TaskCheck:
    """Runs a loaded model on clean and corrupt prompts of one task.

    The prompts are made exactly as `discover` makes them, so that what is refused here is refused there.

    Args:
        card: The task.
        view: The model.
        n: Prompts, or as many as the task has; the templates in turn.
        told: Called with the number of prompts that have been run since the last call.
        **settings: `seed`, `batch_size`, `prepend_bos` and `drop_misfits`, as in `Settings`.

    Raises:
        PromptError: The task does not fit the model.
        ModelError: The model has no tokenizer, or does not give finite numbers.
    """
    started, tokenizer = time.perf_counter(), tokenizer_of(view)
    chosen = replace(Settings.of(settings), n_validation=0)
    bos = bool(settled(card, tokenizer, chosen.prepend_bos).prepend_bos)
    rules = Rules(tokenizer, card.name, bos, limits_of(view))
    splits, lacking = None, list[Shortcoming]()
    try:
        _, splits = prompts_of(card, view, chosen)
    except TooFewPairsError as error:
        lacking.append(Shortcoming("split", str(error)))

    def fits(draft: Draft) -> bool:
        return not check([draft], rules)[0].problems

    drafts = sample_pairs(card, tokenizer, n, chosen.seed, fits if chosen.drop_misfits else None)
    found = _measured(drafts, rules, card, view, chosen.batch_size, told)
    notes = list(splits.notes) if splits else []
    if found.shortcomings and tokenizer.bos_token_id is not None:
        notes += _other_bos(drafts, rules, card, view, chosen.batch_size)
    return replace(
        found,
        shortcomings=(*lacking, *found.shortcomings),
        pairs=count_pairs(card, tokenizer, COUNTED),
        sizes=(len(splits.discovery), len(splits.held_out)) if splits else None,
        notes=tuple(notes),
        left_out=splits.left_out if splits else None,
        seconds=time.perf_counter() - started,
    )


def _measured(
    drafts: Sequence[Draft],
    rules: Rules,
    card: TaskCard,
    view: TransformerView,
    batch_size: int,
    told: Callable[[int], None] | None = None,
) -> TaskCheck:
    """The model on some pairs."""
    prompts, metric = encode(drafts, rules).to(view.device), as_metric(card.metric)
    logits, changed = _logits(view, prompts, batch_size, told)
    clean, corrupt = (metric(of, prompts, logits).float().cpu() for of in (logits, changed))
    above, ranks = None, None
    if prompts.answers.shape[1]:  # right before wrong ones, and the right one's place among all
        above, ranks = accuracy(logits, prompts).cpu(), right_ranks(logits, prompts).cpu()

    def figures(name: str, rows: Bool[Tensor, "n"]) -> Figures:
        return Figures(
            name=name,
            prompts=int(rows.sum()),
            right=None if above is None else int(above[rows].sum()),
            top=None if ranks is None else int((ranks[rows] == 1).sum()),
            rank=None if ranks is None else float(ranks[rows].double().quantile(0.5)),
            metric_clean=float(clean[rows].mean()),
            metric_corrupt=float(corrupt[rows].mean()),
        )

    chance, names = chance_of(prompts, view.d_vocab), [draft.pair.template for draft in drafts]
    in_order = [name for name in template_names(card) if name in names] or sorted(set(names))
    whole = figures("all", torch.ones(len(names), dtype=torch.bool))
    return TaskCheck(
        task=card.name,
        model=view.name,
        metric=card.metric,
        chance=chance,
        whole=whole,
        templates=tuple(figures(name, torch.tensor([other == name for other in names])) for name in in_order),
        shortcomings=tuple(shortcomings(whole.right, chance, clean, corrupt, metric.name)),
    )


@torch.no_grad()
def _logits(
    view: TransformerView, prompts: PromptSet, batch_size: int, told: Callable[[int], None] | None
) -> Float[Tensor, "clean_and_corrupt prompts d_vocab"]:
    """What the clean and the corrupt prompts give where they are read: two forward passes, of which nothing is kept."""
    view.check_lengths(prompts.lengths)
    parts, found = prompts.batch_rows(batch_size, view.fitting), list[Tensor]()
    for batch in map(prompts.select, parts):
        both = []
        for run, tokens in (("clean", batch.clean), ("corrupt", batch.corrupt)):
            embed = view.embed(tokens)
            both.append(view.unembed(read_positions(view.run(embed), batch.read_at)))
            check_finite(view, embed, both[-1:], run)
        found.append(torch.stack(both))
        if told is not None:
            told(len(batch))
    order = torch.tensor([row for part in parts for row in part], device=view.device).argsort()
    return torch.cat(found, 1)[:, order]


def _other_bos(
    drafts: Sequence[Draft], rules: Rules, card: TaskCard, view: TransformerView, batch_size: int
) -> list[str]:
    """Says whether the model does the task with a beginning-of-sequence token where it has none, or the other way."""
    try:
        found = _measured(drafts, replace(rules, prepend_bos=not rules.prepend_bos), card, view, batch_size)
    except PromptError:  # one token more is one too many
        return []
    if found.shortcomings:
        return []
    flag, what = ("--no-bos", "Without") if rules.prepend_bos else ("--bos", "With")
    right = "" if found.whole.right is None else f" ({found.whole.right} of {found.whole.prompts} right)"
    return [f"{what} a beginning-of-sequence token in front the model does the task{right}: give {flag}."]


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
class TaskExamples:
    """A task with some of its pairs, template by template."""

    card: TaskCard
    pairs: tuple[Example, ...]


def task_examples(
    task: str | Path,
    model: str | Path = DEFAULT_MODEL,
    *,
    n: int = 3,
    seed: int = 0,
    prepend_bos: bool | None = None,
    where: str = "none",
) -> TaskExamples:
    """Makes example pairs of a task.

    Args:
        task: Name or path, as for `find_task`.
        model: Whose tokenizer splits them: a name or folder.
        n: Pairs of each template.
        seed: The same seed gives the same pairs.
        prepend_bos: Overrides the task's setting.
        where: Which places in the prompts to name, as in `Settings`.

    Raises:
        AcdcError: A task or model that cannot be found, or a task that does not fit the tokenizer.
    """
    if n < 1:
        raise MethodError(f"n must be at least 1, not {n}.")
    card = find_task(task)
    if prepend_bos is not None:
        card = card.model_copy(update={"prepend_bos": prepend_bos})
    return TaskExamples(card, tuple(examples(card, load_tokenizer(model), n, seed, where)))
