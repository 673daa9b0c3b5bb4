"""Live progress: a line for each running step on a terminal, plain lines elsewhere. Several threads may have steps.

Standard error, so that output can be piped.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

    from portwright.engines.base import Event

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
        self.shown = title
        """Its line on a terminal."""

    def event(self, event: Event) -> None:
        """Show what the step says of itself."""
        self.shown = describe(self._title, event, time.monotonic() - self._started)
        if not self._board.update() and time.monotonic() - self._last > QUIET_S:
            self._last = time.monotonic()
            self._board.line(self.shown)

    def finish(self, outcome: str) -> None:
        """Say how it ended; without this call it failed."""
        self.outcome = outcome


class Board:
    """Where a run shows what it does."""

    def __init__(self) -> None:
        self._console: Console | None = None
        self._status: Status | None = None
        self._steps: list[Step] = []
        self._lock = threading.RLock()

    @property
    def console(self) -> Console:
        """Made late: a run with nothing to do doesn't pay for it."""
        with self._lock:
            if self._console is None:
                from rich.console import Console

                self._console = Console(stderr=True, highlight=False, soft_wrap=True)
            return self._console

    def line(self, text: str) -> None:
        """One line that stays."""
        self.console.print(text, markup=False)

    def update(self) -> bool:
        """Show the running steps as they are now; False where there is no terminal for it."""
        with self._lock:
            if self._status is None:
                return False
            self._status.update(running_text([step.shown for step in self._steps]))
            return True

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show a step while it lasts, and one line when it ends."""
        step = Step(title, self)
        if not self.console.is_terminal:
            self.line(f"{title} …")
        self._add(step)
        try:
            yield step
        finally:
            self._remove(step)
        self.line(f"{title}: {step.outcome or 'done'}")

    def _add(self, step: Step) -> None:
        with self._lock:
            self._steps.append(step)
            if self._status is None and self.console.is_terminal:
                self._status = self.console.status("")
                self._status.start()
            self.update()

    def _remove(self, step: Step) -> None:
        with self._lock:
            self._steps.remove(step)
            if self._status is not None and not self._steps:
                self._status.stop()
                self._status = None
            self.update()


def running_text(lines: Sequence[str]) -> str:
    """What stands behind the spinner: a line a step, the further ones beneath the first."""
    return "\n  ".join(_plain(line) for line in lines)


def describe(title: str, event: Event, seconds: float) -> str:
    """The line of a running step: title, share done, seconds, and what it last said."""
    share = f" {event.done:.0%}" if event.done is not None else ""
    text = event.text if len(event.text) <= MAX_TEXT else event.text[: MAX_TEXT - 1] + "…"
    return f"{title}{share} ({seconds:.0f} s){': ' + text if text else ''}"


def _plain(text: str) -> str:
    """Text that rich doesn't read as markup."""
    return text.replace("[", r"\[")
