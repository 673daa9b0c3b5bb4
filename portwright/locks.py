"""Locks between processes: one maker a key, and no cleaning under a run."""

from __future__ import annotations

import contextlib
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from portwright.disk import writing
from portwright.errors import StoreError
from stagelib.machinelock import POLL_S, hold

CLEANING = "cleaning.lock"
RUNNING = "run-"


@contextlib.contextmanager
def held(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock file; `waiting` is called again and again while another holds it, and gives up by raising."""
    lock = FileLock(path)
    with writing(path):
        while not lock.is_locked:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                waiting()
                time.sleep(POLL_S)
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def inherited(path: Path, waiting: Callable[[], None]) -> Iterator[Sequence[int]]:
    """Hold a lock file; yields the descriptors behind which a child keeps it, even if this process is killed.

    Windows' locks end with the process that took them: there is nothing to hand on.
    """
    if sys.platform == "win32":
        with held(path, waiting):
            yield ()
        return
    with path.open("ab") as file:
        hold(file.fileno(), waiting)
        yield (file.fileno(),)


class Usage:
    """Who uses a host volume: runs, any number at once, or one cleaning."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "locks"

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """While a run lasts, nothing of the store is cleaned away."""
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self._folder / CLEANING):
                mine = FileLock(self._folder / f"{RUNNING}{uuid.uuid4().hex}.lock")
                mine.acquire()
        try:
            yield
        finally:
            mine.release()
            Path(mine.lock_file).unlink(missing_ok=True)

    @contextlib.contextmanager
    def cleaning(self) -> Iterator[None]:
        """Keep runs from starting; StoreError while one lasts."""
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._folder / CLEANING)
            lock.acquire()
        try:
            for path in self._folder.glob(f"{RUNNING}*.lock"):
                self._must_be_over(path)
            yield
        finally:
            lock.release()

    def _must_be_over(self, path: Path) -> None:
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            hint = "wait for it to end, then clean"
            raise StoreError(
                f"a run is using {self._folder.parent}", why="cleaning would take its work away", hint=hint
            ) from None
        lock.release()
        path.unlink(missing_ok=True)
