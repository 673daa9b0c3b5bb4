"""Locks between processes: one maker a key, and no cleaning under a run."""

from __future__ import annotations

import contextlib
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from portwright.disk import writing
from portwright.errors import StoreError
from stagelib.machinelock import POLL_S, hold

if TYPE_CHECKING:
    from filelock import FileLock

CLEANING = "cleaning.lock"
RUNNING = "run-"


def lock_file(path: Path) -> FileLock:
    """A lock that is a file, not taken yet. The package is imported by who takes one: a plan doesn't."""
    from filelock import FileLock

    return FileLock(path)


def taken(lock: FileLock) -> bool:
    """Take a lock unless another has it; whether it was taken."""
    from filelock import Timeout

    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


@contextlib.contextmanager
def held(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock file; `waiting` is called again and again while another holds it, and gives up by raising."""
    lock = lock_file(path)
    with writing(path):
        while not taken(lock):
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
            with lock_file(self._folder / CLEANING):
                mine = lock_file(self._folder / f"{RUNNING}{uuid.uuid4().hex}.lock")
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
            lock = lock_file(self._folder / CLEANING)
            lock.acquire()
        try:
            for path in self._folder.glob(f"{RUNNING}*.lock"):
                self._must_be_over(path)
            yield
        finally:
            lock.release()

    def _must_be_over(self, path: Path) -> None:
        lock = lock_file(path)
        if not taken(lock):
            hint = "wait for it to end, then clean"
            raise StoreError(
                f"a run is using {self._folder.parent}", why="cleaning would take its work away", hint=hint
            )
        lock.release()
        path.unlink(missing_ok=True)
