"""When a search has to end; the clock is the test's."""

import pytest

from acdc_engine.run.discover import Deadline, OutOfTime
from tests.run.test_progress import Hand


def test_a_search_ends_when_its_time_is_over_and_there_is_something_to_deliver() -> None:
    clock = Hand()
    deadline = Deadline(2.0, clock)
    deadline.keep(20.0)
    clock.now += 99
    deadline.armed = True
    deadline.check()
    assert deadline.left() == "at most 0:01 left"
    clock.now += 1
    with pytest.raises(OutOfTime):
        deadline.check()
    deadline.armed = False
    deadline.check()


def test_the_evidence_gets_half_of_the_time_at_most() -> None:
    clock = Hand()
    deadline = Deadline(1.0, clock)
    deadline.armed = True
    deadline.keep(1e6)
    clock.now += 29
    deadline.check()
    clock.now += 1
    with pytest.raises(OutOfTime):
        deadline.check()


def test_without_a_limit_there_is_all_the_time() -> None:
    clock = Hand()
    deadline = Deadline(None, clock)
    deadline.armed = True
    deadline.keep(5.0)
    clock.now += 1e9
    deadline.check()
    assert deadline.left() == ""
