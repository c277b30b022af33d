"""What a run says while it works: bars on a terminal, a line every so often in a file, or nothing."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

Clock = Callable[[], float]
"""Seconds since some fixed moment, such as `time.monotonic`."""
SOON = 2.0
"""Seconds after which a stage says its first line."""
EVERY, LATER, EVERY_LATER = 10.0, 60.0, 60.0
"""Seconds between two lines of a stage, until it has taken `LATER`, and from then on."""


class Stage:
    """One stage of a run; this one says nothing."""

    def advance(self, count: int = 1) -> None:
        """Says that `count` more of the stage's total are done."""

    def at(self, done: int, total: int) -> None:
        """Says how much is done of how much, for stages that begin again or whose total changes."""

    def say(self, text: str) -> None:
        """Replaces the remark beside the stage's title."""


class Reporter:
    """Tells what a run is doing; this one says nothing."""

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Stage]:
        """Marks a stage from entry to exit.

        Args:
            title: What is being done.
            total: How much there is to do, where that is known.
        """
        yield Stage()

    def note(self, text: str) -> None:
        """Says something that stays on the screen."""


def reporter_of(progress: "bool | Reporter") -> Reporter:
    """The reporter that a caller asks for.

    Args:
        progress: A reporter; True for one on stderr, bars where that is a terminal or a notebook and lines elsewhere;
            False for silence.
    """
    if isinstance(progress, Reporter):
        return progress
    if not progress:
        return Reporter()
    console = Console(stderr=True)
    return RichReporter(console) if console.is_interactive or console.is_jupyter else LineReporter(console)


def duration(seconds: float) -> str:
    """Seconds as `1:32` or `1:02:03`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Count:
    """How far a stage has come, and how long the rest will take if it goes on like that."""

    def __init__(self, total: int | None, now: float) -> None:
        self.done, self.total = 0, total
        self._from, self._since = 0, now

    def at(self, done: int, total: int | None, now: float) -> None:
        """Notes a new state; a smaller number than before begins anew."""
        if done < self.done:
            self._from, self._since = done, now
        self.done, self.total = done, total

    def left(self, now: float) -> float | None:
        """Seconds; None where nothing is known of it yet."""
        done = self.done - self._from
        if self.total is None or done <= 0 or self.done >= self.total:
            return None
        return (now - self._since) / done * (self.total - self.done)


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"about {duration(seconds)} left"


class _RichStage(Stage):
    def __init__(self, progress: Progress, title: str, total: int | None) -> None:
        self._progress, self._remark = progress, ""
        self._count = _Count(total, time.monotonic())
        self._task = progress.add_task(title, total=total, remark="")

    def advance(self, count: int = 1) -> None:
        self._move(self._count.done + count, self._count.total)

    def at(self, done: int, total: int) -> None:
        self._move(done, total)

    def say(self, text: str) -> None:
        self._remark = text
        self._show()

    def _move(self, done: int, total: int | None) -> None:
        self._count.at(done, total, time.monotonic())
        self._show()

    def _show(self) -> None:
        words = [self._remark, _left(self._count.left(time.monotonic()))]
        remark = "; ".join(word for word in words if word)
        self._progress.update(self._task, completed=self._count.done, total=self._count.total, remark=remark)


class RichReporter(Reporter):
    """Progress bars on stderr that stay as a log of the stages.

    Args:
        console: Where to; stderr by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        """See the class."""
        self.console = console or Console(stderr=True)

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Stage]:
        """See `Reporter.stage`."""
        whole = Column(no_wrap=True)
        count = MofNCompleteColumn(table_column=whole)
        known = (BarColumn(bar_width=12), count) if total is not None else ()
        title_column = TextColumn("{task.description:<26}", markup=False, table_column=whole)
        cut = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        remark_column = TextColumn("{task.fields[remark]}", style="dim", markup=False, table_column=cut)
        columns = (title_column, TimeElapsedColumn(table_column=whole), *known, remark_column)
        with Progress(*columns, console=self.console, expand=True) as progress:
            yield _RichStage(progress, title, total)

    def note(self, text: str) -> None:
        """See `Reporter.note`."""
        self.console.print(text, markup=False)


class LineReporter(Reporter):
    """A line every so often, for files and pipes: `Pruning: 47 edges, f 0.64; best 51, f 0.91; round 7; 1:32`.

    A stage says one after 2 seconds, then every 10 seconds of its first minute, then every minute, whether or not it is
    told anything, and one at its end; a shorter one says nothing.

    Args:
        console: Where to; stderr by default.
        every_step: A line for whatever a stage is told, at once.
        clock: What tells the time.
        look: Seconds between two looks at the clock by a thread of its own; None for none, so that lines come only
            when a stage is told something.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        every_step: bool = False,
        clock: Clock = time.monotonic,
        look: float | None = 0.5,
    ) -> None:
        """See the class."""
        self.console, self.every_step, self.clock, self.look = console or Console(stderr=True), every_step, clock, look

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Stage]:
        """See `Reporter.stage`."""
        stage, over = _LineStage(self, title, total), threading.Event()
        thread = threading.Thread(target=self._watch, args=(stage, over), daemon=True)
        if self.look is not None:
            thread.start()
        try:
            yield stage
        finally:
            over.set()
            if self.look is not None:
                thread.join()
            if self.every_step or stage.long():
                stage.line()

    def note(self, text: str) -> None:
        """See `Reporter.note`."""
        # One line each, whatever the width: programs read these.
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _watch(self, stage: "_LineStage", over: threading.Event) -> None:
        while not over.wait(self.look):
            stage.tick()


class _LineStage(Stage):
    def __init__(self, reporter: LineReporter, title: str, total: int | None) -> None:
        self._reporter, self._title, self._remark = reporter, title, ""
        self._started = reporter.clock()
        self._count = _Count(total, self._started)
        self._next = self._started + SOON
        self._lock = threading.Lock()

    def advance(self, count: int = 1) -> None:
        self.at(self._count.done + count, self._count.total)

    def at(self, done: int, total: int | None) -> None:
        self._count.at(done, total, self._reporter.clock())
        self._told()

    def say(self, text: str) -> None:
        self._remark = text
        self._told()

    def long(self) -> bool:
        """Whether it has taken long enough to be spoken of."""
        return self._reporter.clock() - self._started >= SOON

    def tick(self) -> None:
        """Says a line if it is time for one."""
        with self._lock:
            if self._reporter.clock() >= self._next:
                self.line()

    def line(self) -> None:
        """Says how things stand."""
        now = self._reporter.clock()
        taken = now - self._started
        self._next = now + (EVERY if taken < LATER else EVERY_LATER)
        count = "" if self._count.total is None else f"{self._count.done:,} of {self._count.total:,}"
        words = [count, self._remark, duration(taken), _left(self._count.left(now))]
        self._reporter.note(f"{self._title}: {'; '.join(word for word in words if word)}")

    def _told(self) -> None:
        if self._reporter.every_step:
            with self._lock:
                self.line()
        else:
            self.tick()
