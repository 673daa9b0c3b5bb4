"""A lock that all users of a machine share: two benchmarks never run at once, whoever asked for them.

Standard library alone: a bundle's runner takes it too, where nothing else is installed.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

MEASURING = "portwright-measuring"
SHARED = Path("/tmp")  # noqa: S108 - a lock must have the same name for all; nothing is written to it
READABLE = 0o644
POLL_S = 0.05
"""A lock is asked for again and again, so that who waits can be told to give up."""


@contextlib.contextmanager
def machine_wide(name: str, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock that all users of this machine share, as far as they share its /tmp (a container has its own).

    `waiting` is called again and again while another holds it, and gives up by raising. Where there is no /tmp, or
    another user keeps the lock's file to himself, and on Windows, it is the user's alone. OSError where that user's
    temporary folder can't be written.
    """
    with _opened(name) as lock:
        # Who wants it again at once finds this one taken by whoever waited meanwhile, and goes after him.
        with _opened(f"{name}-next") as turn:
            hold(turn, waiting)
            hold(lock, waiting)
        yield


@contextlib.contextmanager
def _opened(name: str) -> Iterator[int]:
    """A descriptor of the lock's file; what was locked by it is free again afterwards."""
    descriptor = _shared_file(SHARED / f"{name}.lock")
    if descriptor is None:
        descriptor = _own_file(name)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def hold(descriptor: int, waiting: Callable[[], None]) -> None:
    """Lock an open file for this process and whoever inherits the descriptor (on Windows for this process alone)."""
    while not _locked(descriptor):
        waiting()
        time.sleep(POLL_S)


def _locked(descriptor: int) -> bool:
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _own_file(name: str) -> int:
    user = f"-{os.getuid()}" if hasattr(os, "getuid") else ""
    return os.open(Path(tempfile.gettempdir()) / f"{name}{user}.lock", os.O_RDWR | os.O_CREAT, READABLE)


def _shared_file(path: Path) -> int | None:
    """A descriptor of a file that everybody may read, which is enough to lock it; None where that can't be had.

    It is opened without creating it first: in a sticky folder the kernel refuses to "create" another user's file.
    """
    if sys.platform == "win32":
        return None
    for flags in (0, os.O_CREAT | os.O_EXCL, 0):
        with contextlib.suppress(OSError):
            # Opening somebody's pipe of that name would otherwise wait for a writer.
            given = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            descriptor = os.open(path, given | flags, READABLE)
            if flags:
                os.fchmod(descriptor, READABLE)  # whatever the umask
            return descriptor
    return None
