"""When a search has to end, whether it is done or not."""

import time

from acdc_engine.run.progress import Clock, duration

MOST_KEPT = 0.5
"""Share of the time that is kept for the evidence, at most."""


class OutOfTime(Exception):
    """The search's time is over. Never leaves a run."""


class Deadline:
    """Ends a search in time: `check` is called before every run of a circuit.

    It waits until it is `armed`, which is when there is a circuit to deliver, and does nothing once it is disarmed.

    Args:
        minutes: Time of the whole run, from now on; None for all the time there is.
        clock: What tells the time.

    Attributes:
        minutes: As given.
        armed: Whether `check` may end the search.
    """

    def __init__(self, minutes: float | None, clock: Clock = time.monotonic) -> None:
        """See the class."""
        self.minutes, self.armed = minutes, False
        self._clock, self._started, self._kept = clock, clock(), 0.0

    def keep(self, seconds: float) -> None:
        """Keeps so much time for what follows the search, and not more than half of all."""
        if self.minutes is not None:
            self._kept = min(seconds, MOST_KEPT * 60 * self.minutes)

    def check(self) -> None:
        """Ends the search where its time is over.

        Raises:
            OutOfTime: It is.
        """
        left = self._left()
        if self.armed and left is not None and left <= 0:
            raise OutOfTime

    def left(self) -> str:
        """What is left for the search, in words; empty without a limit."""
        left = self._left()
        return "" if left is None else f"at most {duration(left)} left"

    def _left(self) -> float | None:
        if self.minutes is None:
            return None
        return 60 * self.minutes - self._kept - (self._clock() - self._started)
