"""What every process of a stage does first and last.

It won't outlive its parent, leaves the network alone, and says how much memory it took.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

from stagelib.api import StageError

ORPHANED = 124
NETWORK_EVENTS = frozenset({"socket.connect", "socket.getaddrinfo", "socket.sendto"})
OOM_SCORE = Path("/proc/self/oom_score_adj")
"""Up to 1000; a process may always raise its own."""
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


def die_first() -> None:
    """Have the kernel end this process before all others where memory runs out (Linux; elsewhere this does nothing).

    For work that one can do without.
    """
    with contextlib.suppress(OSError):
        OOM_SCORE.write_text("1000")


def ended(code: int) -> str:
    """How a process ended that gave no result, from its return code."""
    if code >= 0:
        return f"ended with code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"was ended by {name}" + (" (the machine may be out of memory)" if name == "SIGKILL" else "")


def cpu_seconds() -> float:
    """User and system time of this process and of the children it waited for (on Windows of this process alone)."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if sys.platform == "win32":
    from ctypes import wintypes

    class _Counters(ctypes.Structure):
        """PROCESS_MEMORY_COUNTERS of psapi.h."""

        _fields_ = (
            ("cb", wintypes.DWORD),
            ("page_faults", wintypes.DWORD),
            ("peak_working_set", ctypes.c_size_t),
            ("working_set", ctypes.c_size_t),
            ("quotas_and_page_files", ctypes.c_size_t * 6),
        )

    def peak_memory_bytes() -> int:
        """Largest working set of this process, in bytes; 0 where Windows doesn't say. Not verified on Windows."""
        counters = _Counters()
        counters.cb = ctypes.sizeof(counters)
        kernel = ctypes.WinDLL("kernel32")
        kernel.GetCurrentProcess.restype = wintypes.HANDLE
        ask = kernel.K32GetProcessMemoryInfo
        ask.argtypes = (wintypes.HANDLE, ctypes.POINTER(_Counters), wintypes.DWORD)
        found = ask(kernel.GetCurrentProcess(), ctypes.byref(counters), counters.cb)
        return int(counters.peak_working_set) if found else 0

else:

    def peak_memory_bytes() -> int:
        """Largest resident set of this process or of a child it waited for, in bytes."""
        import resource

        peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return peak if sys.platform == "darwin" else peak * 1024
