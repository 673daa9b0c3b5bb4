"""Child processes that don't outlive the process that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

ORPHANED = 124
_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int | None) -> None:
    """Have the kernel kill this process when its parent ends (Linux; elsewhere this does nothing)."""
    if parent_pid is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(ORPHANED)
