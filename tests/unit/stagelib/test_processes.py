"""What is said of a process that ended, and which one the kernel is to end first."""

from __future__ import annotations

from pathlib import Path

import pytest

from stagelib import processes


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1, "ended with code 1"),
        (3221225477, "ended with code 3221225477"),
        (-11, "was ended by SIGSEGV"),
        (-9, "was ended by SIGKILL (the machine may be out of memory)"),
        (-63, "was ended by signal 63"),
    ],
)
def test_how_a_process_ended(code: int, words: str) -> None:
    assert processes.ended(code) == words


def test_what_can_be_done_without_dies_first_where_there_is_such_a_thing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "OOM_SCORE", tmp_path / "score")
    processes.die_first()
    assert (tmp_path / "score").read_text() == "1000"
    monkeypatch.setattr(processes, "OOM_SCORE", tmp_path / "no such folder" / "score")
    processes.die_first()
