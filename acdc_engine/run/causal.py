"""The causal check in a run: which other tasks are asked, on which prompts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from acdc_engine.act.causal import DRAWS, FACTORS, MOST_HEADS, Asked, causal_check
from acdc_engine.errors import MethodError, ModelError, PromptError, TaskError
from acdc_engine.evidence import Stages, silent
from acdc_engine.evidence.resampling import MIN_PROMPTS
from acdc_engine.experiment import Experiment
from acdc_engine.graph.circuit import Circuit
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.card import TaskCard
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.run.prepare import prompts_of, splits_of, tokenizer_alone
from acdc_engine.run.settings import Settings

USUAL = ("ioi", "capital_country", "sva_simple", "gendered_pronoun", "greater_than")
"""Tasks that are asked by default: known of small models, and different in what they take."""
PROMPTS = 32
"""Prompts of each task, at most."""


@dataclass(frozen=True)
class Others:
    """The other tasks of a causal check.

    Attributes:
        cards: They.
        usual: Whether they are those asked by default; then such as do not fit the model are left out.
    """

    cards: tuple[TaskCard, ...]
    usual: bool

    @classmethod
    def of(cls, asked: str | None) -> "Others":
        """Those named, with commas between them; None for the usual ones.

        Raises:
            TaskError: There is no such task, or one is named twice.
        """
        cards = tuple(find_task(name.strip()) for name in (USUAL if asked is None else asked.split(",")))
        if len({card.name for card in cards}) < len(cards):
            raise TaskError(f"--other-tasks are different ones, and one is named twice: {asked}.")
        return cls(cards, asked is None)

    def beside(self, own: str | None) -> "Others":
        """Those that can stand beside a circuit's own task: of the usual ones such as are not of its family.

        Tasks are of one family if their names begin with the same word, as ioi and ioi_swapped.

        Raises:
            TaskError: The circuit's own task was named.
        """
        if self.usual:
            family = (own or "").partition("_")[0]
            return Others(tuple(card for card in self.cards if card.name.partition("_")[0] != family), True)
        if own in [card.name for card in self.cards]:
            raise TaskError(f"--other-tasks are such as the circuit was not found for, and {own!r} is its own.")
        return self

    def look_before_loading(self, model: Any, settings: Settings) -> None:
        """Makes the prompts of the tasks that were named with the model's tokenizer alone; of the usual ones none.

        Raises:
            PromptError: As `prompts`, as far as that can be known without the model.
        """
        tokenizer = None if self.usual else tokenizer_alone(model)
        for card in self.cards if tokenizer is not None else ():
            with self._named():
                _check_enough(card, splits_of(card, tokenizer, _as_asked(settings)).discovery)

    def prompts(self, view: TransformerView, settings: Settings) -> tuple[list[Asked], list[str]]:
        """The tasks with their prompts; and the names of usual ones that do not fit the model.

        Of the settings `seed`, `prepend_bos` and `drop_misfits` count; with the last, prompts that do not fit are left
        out instead of the task.

        Raises:
            PromptError: A task that was named does not fit the model, or has too few prompts.
            ModelError: The model has no tokenizer, and tasks were named.
        """
        asked, unasked = list[Asked](), list[str]()
        for card in self.cards:
            try:
                with self._named():
                    made = prompts_of(card, view, _as_asked(settings))[1].discovery
                    view.check_lengths(made.lengths)
                    _check_enough(card, made)
            except (PromptError, ModelError):
                if not self.usual:
                    raise
                unasked.append(card.name)
                continue
            asked.append(Asked(card.name, made.select(range(min(PROMPTS, len(made)))), get_metric(card.metric)))
        return asked, unasked

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Where a task that was named does not fit, says how to do without it."""
        try:
            yield
        except (PromptError, ModelError) as error:
            raise type(error)(f"{error}\nOr leave the task out: --other-tasks names those to ask.") from error


def _as_asked(settings: Settings) -> Settings:
    """What prompts of other tasks are made by."""
    same = {name: getattr(settings, name) for name in ("seed", "prepend_bos", "drop_misfits")}
    return Settings(n_validation=0, **same)


def _check_enough(card: TaskCard, prompts: PromptSet) -> None:
    """Refuses, with a PromptError, a task with fewer prompts than intervals need."""
    if len(prompts) < MIN_PROMPTS:
        raise PromptError(
            f"Task {card.name!r} has {len(prompts)} prompts for this model, and intervals need {MIN_PROMPTS}: add "
            "words or templates to its card."
        )


def causal_passes(n_others: int, n_discovery: int) -> float:
    """What a causal check with so many other tasks takes at most, in forward passes over so many discovery prompts."""
    return (len(FACTORS) * (1 + MOST_HEADS) + DRAWS + n_others * (2 + DRAWS)) * PROMPTS / n_discovery


def with_causal(
    lab: Experiment,
    circuit: Circuit,
    others: Sequence[Asked] = (),
    *,
    unasked: Sequence[str] = (),
    progress: Stages = silent,
) -> Circuit:
    """The circuit with its causal check, on the experiment's held-out prompts; see `causal_check`.

    Raises:
        MethodError: The circuit has no heads, or the experiment no held-out prompts.
    """
    if lab.held_out is None:
        raise MethodError("The causal check asks the circuit's task on held-out prompts, and there are none.")
    prompts = lab.held_out.select(range(min(PROMPTS, len(lab.held_out))))
    own = Asked(circuit.behaviour_name or lab.name, prompts, lab.metric)
    found = causal_check(
        lab.view,
        circuit,
        own,
        others,
        unasked=unasked,
        seed=lab.seed,
        batch_size=lab.batch_size,
        progress=progress,
    )
    return circuit.model_copy(update={"causal": found})
