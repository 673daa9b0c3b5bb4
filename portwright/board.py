"""Live progress: a spinner line on a terminal, plain lines elsewhere. Standard error, so that output can be piped."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from portwright.engines.base import Event

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

QUIET_S = 15.0
"""Off a terminal, a long step says so this often."""
MAX_TEXT = 70


class Step:
    """One thing that takes time: a stage, or a toolchain being built."""

    def __init__(self, title: str, board: Board) -> None:
        self._title = title
        self._board = board
        self._started = self._last = time.monotonic()
        self.outcome = ""

    def event(self, event: Event) -> None:
        """Show what the step says of itself."""
        text = describe(self._title, event, time.monotonic() - self._started)
        if self._board.status is not None:
            self._board.status.update(_plain(text))
        elif time.monotonic() - self._last > QUIET_S:
            self._last = time.monotonic()
            self._board.line(text)

    def finish(self, outcome: str) -> None:
        """Say how it ended; without this call it failed."""
        self.outcome = outcome


class Board:
    """Where a run shows what it does."""

    def __init__(self) -> None:
        self._console: Console | None = None
        self.status: Status | None = None

    @property
    def console(self) -> Console:
        """Made late: a run with nothing to do doesn't pay for it."""
        if self._console is None:
            from rich.console import Console

            self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        return self._console

    def line(self, text: str) -> None:
        """One line that stays."""
        self.console.print(text, markup=False)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show a step while it lasts, and one line when it ends."""
        step = Step(title, self)
        with contextlib.ExitStack() as stack:
            if self.console.is_terminal:
                self.status = stack.enter_context(self.console.status(_plain(title)))
            else:
                self.line(f"{title} …")
            try:
                yield step
            finally:
                self.status = None
        self.line(f"{title}: {step.outcome or 'done'}")


def describe(title: str, event: Event, seconds: float) -> str:
    """The line of a running step: title, share done, seconds, and what it last said."""
    share = f" {event.done:.0%}" if event.done is not None else ""
    text = event.text if len(event.text) <= MAX_TEXT else event.text[: MAX_TEXT - 1] + "…"
    return f"{title}{share} ({seconds:.0f} s){': ' + text if text else ''}"


def _plain(text: str) -> str:
    """Text that rich doesn't read as markup."""
    return text.replace("[", r"\[")
