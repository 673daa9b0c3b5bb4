"""Threads that each do one thing, and one queue on which they say how it ended."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from portwright.errors import InterruptedRunError

T = TypeVar("T")
STOP_S = 20.0
"""How long things that are to end may take to clean up after themselves."""
WAKE_S = 0.5
"""Windows wakes no thread that waits without an end, not even for Ctrl-C."""


class Workers(Generic[T]):
    """What several threads are doing. All methods but `go_on` are for the thread that leads them."""

    def __init__(self) -> None:
        self._ends: queue.SimpleQueue[tuple[str, T | BaseException]] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()

    def start(self, key: str, job: Callable[[], T]) -> None:
        """Do something in a thread of its own. A process that ends doesn't wait for it."""
        # The thread lives as long as what it started: Linux tells a child of the end of the thread that started it.
        thread = threading.Thread(target=self._do, args=(key, job), name=key, daemon=True)
        self._threads.append(thread)
        thread.start()

    def next(self) -> tuple[str, T | BaseException]:
        """The next thing that ended: its key, and what came of it or what it raised."""
        while True:
            try:
                return self._ends.get(timeout=WAKE_S)
            except queue.Empty:
                continue

    def stop(self, kill: Callable[[], None]) -> None:
        """Have all end, with `kill` for those that wait, and wait until they have cleaned up."""
        self._stopping.set()
        try:
            kill()
        finally:
            until = time.monotonic() + STOP_S
            for thread in self._threads:
                thread.join(max(0.0, until - time.monotonic()))

    def go_on(self) -> None:
        """InterruptedRunError where all is to end: a worker's thread calls this wherever it can."""
        if self._stopping.is_set():
            raise InterruptedRunError("stopped with the run")

    def _do(self, key: str, job: Callable[[], T]) -> None:
        try:
            end: T | BaseException = job()
        except BaseException as error:  # noqa: BLE001 - it is raised again where the threads are led
            end = error
        self._ends.put((key, end))
