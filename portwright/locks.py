"""Locks between processes: one maker a key, one measurement at a time, and no cleaning under a run."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from portwright.disk import writing
from portwright.errors import StoreError

CLEANING = "cleaning.lock"
RUNNING = "run-"
SHARED = Path("/tmp")  # noqa: S108 - a lock must have the same name for all; nothing is written to it
READABLE = 0o644
POLL_S = 0.05
"""A lock is asked for again and again, so that who waits can be told to give up."""


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
        _flock(file.fileno(), waiting)
        yield (file.fileno(),)


@contextlib.contextmanager
def machine_wide(name: str, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock that all users of this machine share, as far as they share its /tmp (a container has its own).

    Where there is none, or another user keeps the lock's file to himself, and on Windows, it is the user's alone.
    """
    descriptor = _shared_file(SHARED / f"{name}.lock")
    if descriptor is None:
        user = f"-{os.getuid()}" if hasattr(os, "getuid") else ""
        with held(Path(tempfile.gettempdir()) / f"{name}{user}.lock", waiting):
            yield
        return
    try:
        _flock(descriptor, waiting)
        yield
    finally:
        os.close(descriptor)


def _shared_file(path: Path) -> int | None:
    """A descriptor of a file that everybody may read, which is enough to lock it; None where that can't be had.

    It is opened without creating it first: in a sticky folder the kernel refuses to "create" another user's file.
    """
    if sys.platform == "win32":
        return None
    for flags in (0, os.O_CREAT | os.O_EXCL, 0):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, READABLE)
            if flags:
                os.fchmod(descriptor, READABLE)  # whatever the umask
            return descriptor
    return None


def _flock(descriptor: int, waiting: Callable[[], None]) -> None:
    """Lock a file for this process and whoever inherits the descriptor; `waiting` is as for `held`."""
    if sys.platform == "win32":
        raise NotImplementedError
    import fcntl

    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            time.sleep(POLL_S)
        else:
            return


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
