"""What an engine runs at this moment, so that another thread can end it all: nothing then starts any more."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from portwright.errors import InterruptedRunError


class Running:
    """Things that run, each with what kills it. Safe for threads."""

    def __init__(self) -> None:
        self._kills: dict[int, Callable[[], None]] = {}
        self._stopped = False
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def holding(self, kill: Callable[[], None]) -> Iterator[None]:
        """While a thing lasts, `stop` kills it. InterruptedRunError where all was stopped before."""
        mark = id(kill)
        with self._lock:
            self._check()
            self._kills[mark] = kill
        try:
            yield
        finally:
            with self._lock:
                del self._kills[mark]

    def check(self) -> None:
        """InterruptedRunError once all is to end: for a thing that could not be killed when that was said."""
        with self._lock:
            self._check()

    def stop(self) -> None:
        """Kill what runs, and let nothing else start. What one of them raises is raised when all were told."""
        with self._lock:
            self._stopped = True
            kills = list(self._kills.values())
        with contextlib.ExitStack() as stack:
            for kill in kills:
                stack.callback(kill)

    def _check(self) -> None:
        if self._stopped:
            raise InterruptedRunError("stopped with the run")
