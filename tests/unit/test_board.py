"""The board with several steps at once, on a terminal and off one."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from portwright.board import Board, running_text
from portwright.engines.base import Event


def board_on(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> tuple[Board, io.StringIO]:
    """A board, and what it writes to."""
    out, board = io.StringIO(), Board()
    monkeypatch.setattr(board, "_console", Console(file=out, force_terminal=terminal, width=100, highlight=False))
    return board, out


def test_off_a_terminal_lines_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    board, out = board_on(monkeypatch, terminal=False)
    with board.step("qnn 3/11 export") as first, board.step("dml 4/9 optimize [x]") as second:
        first.event(Event(kind="progress", done=0.5))
        second.finish("2.0 s")
        first.finish("3.0 s")
    assert out.getvalue().splitlines() == [
        "qnn 3/11 export …",
        "dml 4/9 optimize [x] …",
        "dml 4/9 optimize [x]: 2.0 s",
        "qnn 3/11 export: 3.0 s",
    ]


def test_on_a_terminal_every_running_step_has_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    board, out = board_on(monkeypatch, terminal=True)
    with board.step("first") as first:
        with board.step("second") as second:
            second.event(Event(kind="progress", done=0.25, text="half [way]"))
            assert board.update()
            assert board._status is not None
            assert str(board._status.status) == "first\n  second 25% (0 s): half \\[way]"
            second.finish("1.0 s")
        assert str(board._status.status) == "first"
        first.finish("2.0 s")
    assert not board.update()
    assert "second: 1.0 s" in out.getvalue()


def test_a_step_that_fails_is_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    board, out = board_on(monkeypatch, terminal=True)
    with pytest.raises(ZeroDivisionError), board.step("first"):
        raise ZeroDivisionError
    assert not board.update()
    assert "done" not in out.getvalue()


def test_the_text_of_steps() -> None:
    assert running_text([]) == ""
    assert running_text(["a [b]", "c"]) == "a \\[b]\n  c"
