"""What a search has come to at any moment, and the clock that ends it in time."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

from acdc_engine.display import counted
from acdc_engine.experiment import Experiment
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.files import SO_FAR
from acdc_engine.graph.records import Unfinished
from acdc_engine.patch.judge import Target
from acdc_engine.run.folder import RunFolder
from acdc_engine.run.progress import Clock, Stage, duration
from acdc_engine.search import Found

_MOST_KEPT = 0.5
"""Share of the time that is kept for the evidence, at most."""


class OutOfTime(Exception):
    """The search's time is over. Never leaves a run."""


class Deadline:
    """Ends a search in time: `check` is called before every run of a circuit.

    It waits until it is `armed`, which is when there is a circuit to deliver, and does nothing once it is disarmed.
    `minutes` is the time of the whole run, from now on; None is all the time there is.
    """

    def __init__(self, minutes: float | None, clock: Clock = time.monotonic) -> None:
        self.minutes, self.armed = minutes, False
        self._clock, self._started, self._kept = clock, clock(), 0.0

    def keep(self, seconds: float) -> None:
        """Keeps so much time for what follows the search, and not more than half of all."""
        if self.minutes is not None:
            self._kept = min(seconds, _MOST_KEPT * 60 * self.minutes)

    def check(self) -> None:
        """Ends the search where its time is over.

        Raises:
            OutOfTime: It is.
        """
        if self.armed and self._left() <= 0:
            raise OutOfTime

    def left(self) -> str:
        """What is left for the search, in words; empty without a limit."""
        return "" if self.minutes is None else f"at most {duration(self._left())} left"

    def _left(self) -> float:
        whole = math.inf if self.minutes is None else 60 * self.minutes
        return whole - self._kept - (self._clock() - self._started)


class Steps:
    """Takes note of every circuit that a search runs, and ends it in time.

    The best circuit is the smallest in the band aimed at; as long as there is none, the one nearest to it. Without a
    band (the size is given) it is the latest. `circuit_of` makes the circuit that goes into the folder;
    `unfinished` says what the search was stopped in, once it was.
    """

    def __init__(
        self,
        lab: Experiment,
        aim: Target | None,
        folder: RunFolder | None,
        deadline: Deadline,
        circuit_of: Callable[[Found, Unfinished], Circuit],
    ) -> None:
        self._graph, self._aim, self._folder, self._deadline = lab.graph, aim, folder, deadline
        self._circuit_of = circuit_of
        self._best: tuple[Found, bool] | None = None
        self._stage = Stage()
        self.called = {"kl": "KL recovered", "prompts": "recovered prompt by prompt"}.get(lab.aim, "f")
        self.unfinished: Unfinished | None = None

    @contextmanager
    def watched(self, stage: Stage, of_edges: bool = False) -> Iterator[None]:
        """Remarks go to this stage: the search, or the tests of its edges. An interruption leaves the best circuit."""
        self._stage = stage
        part: Literal["search", "edge tests"] = "edge tests" if of_edges else "search"
        try:
            yield
        except OutOfTime:
            # From now on there is all the time, and nothing goes into the trace: it ends where the search did.
            self._deadline.armed = False
            if self._folder is not None:
                self._folder.trace.close()
            self.unfinished = Unfinished(stage=part, minutes=self._deadline.minutes)
        except KeyboardInterrupt:
            if self._best is not None and self._folder is not None:
                self._folder.save_circuit(self._circuit_of(self.best, Unfinished(stage=part)), SO_FAR)
            raise

    @property
    def best(self) -> Found:
        """The best circuit so far, clean."""
        assert self._best is not None, "a search is stopped when there is a circuit"
        found = self._best[0]
        return replace(found, mask=clean(self._graph, found.mask))

    def go_on_from(self, so_far: Found, aim: Target) -> None:
        """From now on circuits are judged otherwise; the best one so far counts until another lies in the band."""
        self._best, self._aim = (so_far, False), aim

    def take(self, what: str, found: Found, met: bool) -> None:
        """Notes a circuit that was run; a `Report`."""
        if self._better(found, met):
            self._best, self._deadline.armed = (found, met), True
        remark = [self._words(found)]
        if self._best is not None and self._best[0] is not found:
            remark.append(f"best {self._words(self._best[0])}".replace(" edges", ""))
        self._stage.say("; ".join(word for word in (*remark, what, self._deadline.left()) if word))
        if self._folder is not None:
            self._folder.trace.step(what, found.size, found.faithfulness, met)

    def _words(self, found: Found) -> str:
        return f"{counted(found.size, 'edge')}, {self.called} {found.faithfulness:.2f}"

    def _better(self, found: Found, met: bool) -> bool:
        target = self._aim
        if not found.size or not math.isfinite(found.faithfulness):
            return False
        if target is None:
            return True
        if found.size == self._graph.n_edges:  # no result of a search: see `find_circuit`
            return False
        if self._best is None:
            return True
        best, best_met = self._best
        if met or best_met:
            return met and (not best_met or found.size < best.size)
        return target.distance(found.faithfulness) < target.distance(best.faithfulness)
