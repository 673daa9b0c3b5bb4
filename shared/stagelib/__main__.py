"""Runs one stage call: `python -m stagelib CALL.json`.

The call names the stage, its parameters and its directories. Standard output carries one JSON event a line and nothing
else; whatever a vendor library prints goes to standard error, which the host keeps as the stage's log. The outcome is
written to the file that the call names under `result`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

from stagelib import machine
from stagelib.api import Call, Result, Stage, StageError
from stagelib.processes import cpu_seconds, die_with_parent, forbid_network, peak_memory_bytes

TIMED_OUT = 124
NO_SPACE = 28
UNREPORTED = 74


def main(argv: list[str]) -> int:
    spec = json.loads(Path(argv[0]).read_text())
    events = _claim_stdout()
    die_with_parent(spec.get("parent_pid"))
    _arm_deadline(spec["deadline_s"])
    if not spec["network"]:
        forbid_network()
    started = time.perf_counter()
    outcome = _run(spec, events)
    outcome["seconds"] = round(time.perf_counter() - started, 3)
    outcome["cpu_seconds"] = round(cpu_seconds(), 3)
    outcome["peak_memory_bytes"] = peak_memory_bytes()
    try:
        Path(spec["result"]).write_text(json.dumps(outcome))
    except OSError as error:
        # Without room for a report, the exit code is all that is left to say it with.
        return NO_SPACE if error.errno in {errno.ENOSPC, errno.EDQUOT} else UNREPORTED
    return 0 if outcome["ok"] else 1


def _run(spec: Mapping[str, Any], events: IO[str]) -> dict[str, Any]:
    """The stage's outcome, or the error that ended it, as the host reads it."""
    try:
        module = importlib.import_module(f"stagelib.stages.{spec['stage']}")
        stage: Stage = module.STAGE
        call = _call(spec, events)
        result: Result = module.run(call, stage.params(**_tuples(spec["params"])))
        versions = _versions((*stage.needs, *spec.get("also_versions", ())))
    except StageError as error:
        return {"ok": False, "kind": error.kind, "message": error.message, "hint": error.hint}
    except Exception as error:  # noqa: BLE001 - the top of the process: the host prints the line, the log the traceback
        import traceback

        with contextlib.suppress(OSError):  # the log's disk may be the full one
            traceback.print_exc()
        return {"ok": False, "kind": "stage", "message": f"{type(error).__name__}: {error}", "hint": ""}
    found = {"facts": dict(result.facts), "samples": list(result.samples), "versions": versions}
    return {"ok": True, "passed": call.passed} | found


def _call(spec: Mapping[str, Any], events: IO[str]) -> Call:
    def path(name: str) -> Path | None:
        return Path(spec[name]) if spec.get(name) else None

    return Call(
        stage=spec["stage"],
        inputs={role: Path(where) for role, where in spec["inputs"].items()},
        output=Path(spec["output"]),
        scratch=Path(spec["scratch"]),
        cache=path("cache"),
        fills=path("fills"),
        events=events,
    )


def _tuples(params: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no tuples, and the parameters are hashable dataclasses."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in params.items()}


def _claim_stdout() -> IO[str]:
    """Keep the real standard output for events, and send file descriptor 1 to the log."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return events


def _arm_deadline(seconds: float) -> None:
    """End the process even if native code never returns to Python, and nobody is left to kill the container."""
    timer = threading.Timer(seconds, lambda: os._exit(TIMED_OUT))
    timer.daemon = True
    timer.start()


def _versions(needs: tuple[str, ...]) -> dict[str, str]:
    return {"python": platform.python_version()} | machine.versions(needs)


def _end(code: int) -> NoReturn:
    """End the process without taking it down piece by piece: with gigabytes and a framework in it that takes a second,
    and what there is to say has been written."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # the log's disk may be the full one
            stream.flush()
    if os.name == "posix":
        # What native code wrote through C's own buffers, which only an ordinary end would empty.
        ctypes.CDLL(None).fflush(None)
    os._exit(code)


if __name__ == "__main__":
    _end(main(sys.argv[1:]))
