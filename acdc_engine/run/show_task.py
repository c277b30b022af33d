"""Example pairs of a task as a model sees them; needs its tokenizer, not its weights."""

from dataclasses import dataclass
from pathlib import Path

from acdc_engine.errors import MethodError
from acdc_engine.model.load_tokenizer import load_tokenizer
from acdc_engine.model.sources import DEFAULT_MODEL
from acdc_engine.prompts.card import TaskCard
from acdc_engine.prompts.examples import Example, examples
from acdc_engine.prompts.find import find_task


@dataclass(frozen=True)
class TaskExamples:
    """A task with some of its pairs.

    Attributes:
        card: The task.
        pairs: Examples of each template, template by template.
    """

    card: TaskCard
    pairs: tuple[Example, ...]


def task_examples(
    task: str | Path,
    model: str | Path = DEFAULT_MODEL,
    *,
    n: int = 3,
    seed: int = 0,
    prepend_bos: bool | None = None,
) -> TaskExamples:
    """Makes example pairs of a task.

    Args:
        task: Name or path, as for `find_task`.
        model: Whose tokenizer splits them: a name or folder.
        n: Pairs of each template.
        seed: The same seed gives the same pairs.
        prepend_bos: Overrides the task's setting.

    Raises:
        AcdcError: A task or model that cannot be found, or a task that does not fit the tokenizer.
    """
    if n < 1:
        raise MethodError(f"n must be at least 1, not {n}.")
    card = find_task(task)
    if prepend_bos is not None:
        card = card.model_copy(update={"prepend_bos": prepend_bos})
    return TaskExamples(card, tuple(examples(card, load_tokenizer(model), n, seed)))
