"""What an engine runs can be ended from another thread, whenever that comes."""

from __future__ import annotations

from functools import partial

import pytest

from portwright.engines.running import Running
from portwright.errors import InterruptedRunError


def test_what_runs_is_killed_and_what_is_over_is_not() -> None:
    running = Running()
    killed: list[str] = []
    with running.holding(lambda: killed.append("over")):
        pass
    with running.holding(lambda: killed.append("first")), running.holding(lambda: killed.append("second")):
        running.check()
        running.stop()
        assert sorted(killed) == ["first", "second"]
        with pytest.raises(InterruptedRunError):
            running.check()


def test_nothing_starts_after_the_end() -> None:
    running = Running()
    running.stop()
    with pytest.raises(InterruptedRunError), running.holding(lambda: None):
        pytest.fail("it started")


def test_one_that_cannot_be_killed_keeps_no_other_alive() -> None:
    running = Running()
    killed: list[str] = []

    def stuck() -> None:
        raise ConnectionError

    first, last = (partial(killed.append, name) for name in ("first", "last"))
    with running.holding(first), running.holding(stuck), running.holding(last), pytest.raises(ConnectionError):
        running.stop()
    assert sorted(killed) == ["first", "last"]
