"""How good a circuit is, on prompts it was or was not searched on, and how far that can be trusted."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from jaxtyping import Bool, Float
from torch import Tensor

Mask = Bool[Tensor, "senders receivers"]
"""A circuit."""
Scores = Float[Tensor, "senders receivers"]
"""A number for each edge."""


class _Counter(Protocol):
    """A stage of the work that is told how far it has come."""

    def advance(self, count: int = 1, /) -> None:
        """Says that `count` more of the stage's total are done."""


Stages = Callable[[str, int | None], AbstractContextManager[_Counter]]
"""Opens a stage, given its title and how much there is to do (None: not known); `Reporter.stage` is one."""


class _Silent:
    def advance(self, count: int = 1, /) -> None:
        """Says nothing."""


@contextmanager
def silent(title: str, total: int | None) -> Iterator[_Counter]:
    """Stages that say nothing."""
    yield _Silent()
