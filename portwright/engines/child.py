"""A child process in a group of its own, of which nothing is left however it or this process ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from portwright.engines.call import TIMED_OUT


class Child:
    """A running child. Its group ends with it: what it started and left behind is killed, its output's end included."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._timed_out = threading.Event()
        # The group must be killed while its leader is a zombie: once reaped, the number may be someone else's.
        self._undertaker = threading.Thread(target=self._bury, daemon=True)
        self._undertaker.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def lines(self) -> Iterator[str]:
        """What it prints, until it and all it started are gone."""
        assert self._process.stdout is not None
        yield from self._process.stdout

    def end(self) -> int:
        """Wait for its end: its exit code, -N for signal N, or TIMED_OUT if it was killed at its deadline."""
        self._undertaker.join()
        code = self._process.wait()
        return TIMED_OUT if self._timed_out.is_set() else code

    def expire(self) -> None:
        """Kill it because its time is up."""
        if self._undertaker.is_alive():
            self._timed_out.set()
            self._kill()

    def kill(self) -> None:
        """Kill whatever of it still runs; any thread may."""
        if self._undertaker.is_alive():
            self._kill()

    def close(self) -> None:
        """Kill whatever of it still runs, and wait for its end."""
        self.kill()
        self.end()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _bury(self) -> None:
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        else:
            self._process.wait()
        self._kill()

    def _kill(self) -> None:
        if sys.platform == "win32":
            self._process.kill()
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
            os.killpg(self._process.pid, signal.SIGKILL)


@contextlib.contextmanager
def running(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    errors_to: IO[bytes] | None = None,
    cwd: Path | None = None,
    deadline_s: float | None = None,
    held: Sequence[int] = (),
) -> Iterator[Child]:
    """Start a child, and kill its group at the deadline or at the latest when this context ends.

    Its standard error goes to `errors_to`, or among its output. `held` are file descriptors that it keeps open: a lock
    behind one stays taken until the child ends, even if this process is killed before.
    """
    process = subprocess.Popen(
        command,
        env=dict(environment),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors_to or subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        pass_fds=held,
    )
    child = Child(process)
    killer = threading.Timer(deadline_s, child.expire) if deadline_s is not None else None
    if killer is not None:
        killer.daemon = True
        killer.start()
    try:
        yield child
    finally:
        if killer is not None:
            killer.cancel()
        child.close()
