"""One benchmark a machine, whoever asked for it."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from stagelib import machinelock
from stagelib.machinelock import machine_wide


def test_one_measures_at_a_time_whatever_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machinelock, "SHARED", tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "first"))
    told, free = threading.Event(), threading.Event()

    def second() -> None:
        with machine_wide("name", told.set):
            free.set()

    with machine_wide("name", lambda: pytest.fail("nobody holds it")):
        assert stat.S_IMODE((tmp_path / "name.lock").stat().st_mode) == 0o644
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "second"))
        thread = threading.Thread(target=second)
        thread.start()
        assert told.wait(10)
        assert not free.is_set()
    thread.join(10)
    assert free.is_set()


def test_a_link_in_the_locks_way_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machinelock, "SHARED", tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "own"))
    (tmp_path / "own").mkdir()
    (tmp_path / "name.lock").symlink_to(tmp_path / "victim")
    with machine_wide("name", lambda: pytest.fail("nobody holds it")):
        assert [path.name for path in (tmp_path / "own").iterdir()] == [f"name-{os.getuid()}.lock"]
    assert not (tmp_path / "victim").exists()


def test_who_has_just_had_it_goes_after_who_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machinelock, "SHARED", tmp_path)
    told = threading.Event()
    order: list[str] = []

    def second() -> None:
        with machine_wide("name", told.set):
            order.append("who waited")

    thread = threading.Thread(target=second)
    with machine_wide("name", lambda: pytest.fail("nobody holds it")):
        thread.start()
        assert told.wait(10)
    with machine_wide("name", lambda: None):
        order.append("who had it")
    thread.join(10)
    assert order == ["who waited", "who had it"]


def test_who_gives_up_waiting_keeps_nobody_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machinelock, "SHARED", tmp_path)

    def give_up() -> None:
        raise TimeoutError

    with machine_wide("name", lambda: pytest.fail("nobody holds it")), pytest.raises(TimeoutError):  # noqa: SIM117
        with machine_wide("name", give_up):
            pytest.fail("it is held")
    with machine_wide("name", lambda: pytest.fail("nobody holds it")):
        pass


def test_a_pipe_in_the_locks_way_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machinelock, "SHARED", tmp_path)
    os.mkfifo(tmp_path / "name.lock")
    with machine_wide("name", lambda: pytest.fail("nobody holds it")):
        pass
