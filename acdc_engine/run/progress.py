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
_SOON = 2.0
"""Seconds after which a stage says its first line."""
_EVERY, _LATER, _EVERY_LATER = 10.0, 60.0, 60.0
"""Seconds between two lines of a stage, until it has taken `_LATER`, and from then on."""


class Stage:
    """One stage of a run: how far it has come, and how long the rest will take. This one says nothing."""

    def __init__(self, total: int | None = None, clock: Clock = time.monotonic) -> None:
        """A stage that begins now, with so much to do where that is known."""
        self.done, self.total, self.remark, self.clock = 0, total, "", clock
        self.started = self._since = clock()
        self._from = 0

    def advance(self, count: int = 1) -> None:
        """Says that `count` more of the stage's total are done."""
        self.at(self.done + count, self.total)

    def at(self, done: int, total: int | None) -> None:
        """Says how much is done of how much; a smaller number than before begins anew."""
        if done < self.done:
            self._from, self._since = done, self.clock()
        self.done, self.total = done, total
        self._told()

    def say(self, text: str) -> None:
        """Replaces the remark beside the stage's title."""
        self.remark = text
        self._told()

    def _told(self) -> None:
        """Something has changed."""

    def _left(self) -> str:
        """How long the rest takes if it goes on like that; empty where nothing is known of it yet."""
        done, now = self.done - self._from, self.clock()
        if self.total is None or done <= 0 or self.done >= self.total:
            return ""
        return f"about {duration((now - self._since) / done * (self.total - self.done))} left"


class Reporter:
    """Tells what a run is doing; this one says nothing."""

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Stage]:
        """Marks a stage from entry to exit; `total` is how much there is to do, where that is known."""
        yield Stage()

    def note(self, text: str) -> None:
        """Says something that stays on the screen."""


def reporter_of(progress: "bool | Reporter") -> Reporter:
    """The reporter that a caller asks for: its own, silence, or stderr.

    True is for bars where stderr is a terminal or a notebook, and lines elsewhere.
    """
    if isinstance(progress, Reporter):
        return progress
    if not progress:
        return Reporter()
    console = Console(stderr=True)
    return _RichReporter(console) if console.is_interactive or console.is_jupyter else LineReporter(console)


def duration(seconds: float) -> str:
    """Seconds as `1:32` or `1:02:03`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _RichStage(Stage):
    def __init__(self, progress: Progress, title: str, total: int | None) -> None:
        super().__init__(total)
        self._progress, self._task = progress, progress.add_task(title, total=total, remark="")

    def _told(self) -> None:
        remark = "; ".join(word for word in (self.remark, self._left()) if word)
        self._progress.update(self._task, completed=self.done, total=self.total, remark=remark)


class _RichReporter(Reporter):
    """Progress bars that stay as a log of the stages."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Stage]:
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
            if self.every_step or self.clock() - stage.started >= _SOON:
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
        super().__init__(total, reporter.clock)
        self._reporter, self._title, self._lock = reporter, title, threading.Lock()
        self._next = self.started + _SOON

    def tick(self) -> None:
        """Says a line if it is time for one."""
        with self._lock:
            if self.clock() >= self._next:
                self.line()

    def line(self) -> None:
        """Says how things stand."""
        now = self.clock()
        taken = now - self.started
        self._next = now + (_EVERY if taken < _LATER else _EVERY_LATER)
        count = "" if self.total is None else f"{self.done:,} of {self.total:,}"
        words = [count, self.remark, duration(taken), self._left()]
        self._reporter.note(f"{self._title}: {'; '.join(word for word in words if word)}")

    def _told(self) -> None:
        if self._reporter.every_step:
            with self._lock:
                self.line()
        else:
            self.tick()
