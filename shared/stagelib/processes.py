"""What every process of a stage does first: it won't outlive its parent, and leaves the network alone."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from stagelib.api import StageError

ORPHANED = 124
NETWORK_EVENTS = frozenset({"socket.connect", "socket.getaddrinfo", "socket.sendto"})
_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int | None) -> None:
    """Have the kernel kill this process when its parent ends (Linux; elsewhere this does nothing)."""
    if parent_pid is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(ORPHANED)


def forbid_network() -> None:
    """Have every use of the network raise StageError, for good.

    A container has none; without a container this keeps a library from downloading in silence. Python can't hand the
    hook down: a child process calls this itself.
    """

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event in NETWORK_EVENTS and not (event == "socket.connect" and isinstance(args[1], str)):
            raise StageError(f"a stage without network access tried to use it ({event} {args[1:]!r})")

    sys.addaudithook(hook)
