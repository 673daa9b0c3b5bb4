"""Timing whole commands: wall and CPU seconds of a process and all its children, and the most memory any one held."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TextIO

ROOT = Path(__file__).resolve().parent.parent
BYTES_PER_MAXRSS = 1 if sys.platform == "darwin" else 1024
INVOKE = (sys.executable, "-m", "invoke")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a command took. Children count once they were waited for, as the system's own accounting has it."""

    wall_s: float
    cpu_s: float
    """User and system time."""
    peak_bytes: int
    """Largest resident set of any one process."""
    code: int
    out: str


def timed(
    command: Sequence[str],
    extra: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    shown: TextIO | None = None,
) -> Cost:
    """Run a command to its end; what it prints is kept, and `shown` at once where somebody waits for it."""
    started = time.perf_counter()
    # wait4 gives this child's own accounting, whatever else this process started before.
    with (
        subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **(extra or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
        _ending(process),
    ):
        assert process.stdout is not None
        out = "".join(echoed(process.stdout, shown))
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return Cost(
        wall_s=time.perf_counter() - started,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_bytes=usage.ru_maxrss * BYTES_PER_MAXRSS,
        code=process.returncode,
        out=out,
    )


@contextmanager
def leaving_in_order() -> Iterator[None]:
    """Have the first SIGINT or SIGTERM be an exception, so that folders of gigabytes don't stay behind; those that come
    while they go, as from a terminal and from whoever started this, are ignored."""

    def leave(number: int, _: object) -> NoReturn:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        sys.exit(128 + number)

    before = {each: signal.signal(each, leave) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def _ending(process: subprocess.Popen[str]) -> Iterator[None]:
    """End a process with whatever waits for it."""
    try:
        yield
    except BaseException:
        process.terminate()
        raise


def echoed(printed: Iterable[str], shown: TextIO | None) -> Iterator[str]:
    """The lines as they come, each shown before the next is awaited."""
    for line in printed:
        if shown:
            print(line, end="", file=shown, flush=True)
        yield line


def own_peak_bytes() -> int:
    """The most memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_PER_MAXRSS


def succeeded(cost: Cost, what: str) -> Cost:
    """The cost of a command that must end well; RuntimeError with its last lines where it didn't."""
    if cost.code != 0:
        raise RuntimeError(f"{what} ended with exit code {cost.code}:\n" + "\n".join(cost.out.splitlines()[-20:]))
    return cost
