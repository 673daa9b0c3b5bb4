"""Locks between processes: who waits for whom, who is told, and who may give up."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from portwright.errors import InterruptedRunError, StoreError
from portwright.locks import Usage, held


def test_nothing_is_cleaned_under_a_run(tmp_path: Path) -> None:
    usage = Usage(tmp_path)
    with usage.in_use(), pytest.raises(StoreError, match="a run is using"), usage.cleaning():
        pass
    with usage.cleaning():
        pass


def test_who_must_wait_is_told(tmp_path: Path) -> None:
    told, free = threading.Event(), threading.Event()

    def second() -> None:
        with held(tmp_path / "lock", told.set):
            free.set()

    with held(tmp_path / "lock", lambda: None):
        thread = threading.Thread(target=second)
        thread.start()
        assert told.wait(10)
        assert not free.is_set()
    thread.join(10)
    assert free.is_set()


def test_who_waits_may_give_up(tmp_path: Path) -> None:
    asked = []

    def third_time_is_enough() -> None:
        asked.append(1)
        if len(asked) == 3:
            raise InterruptedRunError("no longer wanted")

    with (
        held(tmp_path / "lock", lambda: None),
        pytest.raises(InterruptedRunError),
        held(tmp_path / "lock", third_time_is_enough),
    ):
        pass
    with held(tmp_path / "lock", lambda: pytest.fail("nobody holds it")):
        pass
