"""What a run says while it works; the clock is the test's."""

import io
import time
from collections.abc import Callable

import pytest
from rich.console import Console

from acdc_engine.run.progress import LineReporter, Reporter, _RichReporter, duration, reporter_of


class Hand:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def lines(work: Callable[[LineReporter, Hand], None], **options: bool) -> list[str]:
    """What work says on a reporter for files."""
    written, clock = io.StringIO(), Hand()
    work(LineReporter(Console(file=written, width=40), clock=clock, look=None, **options), clock)
    return written.getvalue().splitlines()


def test_a_stage_says_a_line_after_two_seconds_then_every_ten_and_every_minute_and_one_at_its_end() -> None:
    def work(reporter: LineReporter, clock: Hand) -> None:
        with reporter.stage("Pruning") as stage:
            for second in range(1, 201):
                clock.now += 1
                stage.say(f"{second} edges, f 0.64; best 51, f 0.91; round 7")

    told = lines(work)
    assert [line.rpartition("; ")[2] for line in told] == (
        ["0:02", "0:12", "0:22", "0:32", "0:42", "0:52", "1:02", "2:02", "3:02", "3:20"]
    )
    assert told[0] == "Pruning: 2 edges, f 0.64; best 51, f 0.91; round 7; 0:02"


def test_what_is_left_is_estimated_where_the_total_is_known_and_anew_where_a_pass_begins_again() -> None:
    def work(reporter: LineReporter, clock: Hand) -> None:
        with reporter.stage("Testing every edge", 100) as stage:
            clock.now += 30
            stage.at(20, 100)
            clock.now += 100
            stage.at(10, 40)  # another pass: nothing is known of it yet
            clock.now += 60
            stage.at(30, 40)

    assert lines(work) == [
        "Testing every edge: 20 of 100; 0:30; about 2:00 left",
        "Testing every edge: 10 of 40; 2:10",
        "Testing every edge: 30 of 40; 3:10; about 0:30 left",
        "Testing every edge: 30 of 40; 3:10; about 0:30 left",
    ]


def test_short_stages_say_nothing_and_every_step_says_all() -> None:
    def work(reporter: LineReporter, clock: Hand) -> None:
        with reporter.stage("Scoring all edges", 32) as stage:
            for _ in range(2):
                clock.now += 0.5
                stage.advance(16)
        reporter.note("logit_diff: clean 3.1")

    assert lines(work) == ["logit_diff: clean 3.1"]
    assert lines(work, every_step=True) == [
        "Scoring all edges: 16 of 32; 0:00; about 0:00 left",
        "Scoring all edges: 32 of 32; 0:01",
        "Scoring all edges: 32 of 32; 0:01",
        "logit_diff: clean 3.1",
    ]


def test_a_stage_that_is_told_nothing_is_not_silent() -> None:
    written = io.StringIO()
    clock = Hand()
    with LineReporter(Console(file=written), clock=clock, look=0.001).stage("Loading the model"):
        clock.now += 5
        while not written.getvalue():  # until the thread has looked
            time.sleep(0.001)
    assert written.getvalue().splitlines() == ["Loading the model: 0:05"] * 2


def test_an_interrupted_stage_says_how_far_it_came() -> None:
    def work(reporter: LineReporter, clock: Hand) -> None:
        with pytest.raises(KeyboardInterrupt), reporter.stage("Random circuits", 20) as stage:
            clock.now += 3
            stage.advance(7)
            raise KeyboardInterrupt

    assert lines(work)[0].startswith("Random circuits: 7 of 20; ")


def test_the_same_words_on_a_terminal() -> None:
    written = io.StringIO()
    console = Console(file=written, width=150, force_terminal=True)
    with _RichReporter(console).stage("Pruning") as stage:
        stage.say("47 edges, f 0.64; best 51, f 0.91; round 7")
    assert "47 edges, f 0.64; best 51, f 0.91; round 7" in written.getvalue()


def test_lines_where_stderr_is_no_terminal_and_silence_where_nothing_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert type(reporter_of(True)) is LineReporter
    assert type(reporter_of(False)) is Reporter
    own = Reporter()
    assert reporter_of(own) is own


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (92.0, "1:32"), (3723.2, "1:02:03"), (-1.0, "0:00")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
