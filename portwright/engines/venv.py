"""The engine that needs no daemon: one uv virtual environment a toolchain, made from the same hash locks."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import uv
from filelock import FileLock

from portwright.engines.base import EngineKind, Event, EventSink, Job, Outcome
from portwright.engines.call import (
    CallPaths,
    merge_hub_cache,
    network_environment,
    parse_event,
    read_outcome,
    write_call,
)
from portwright.errors import EngineError
from portwright.packages import PackageSettings, install_hint
from portwright.toolchain import Toolchain

READY = ".portwright-ready"
BIN = "Scripts" if sys.platform == "win32" else "bin"
PASSED_ON = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""What a stage may see of the caller's environment: enough to start, nothing that changes a result by surprise."""
LOCKED_PYTHON = "3.11"
LAST_LINES = 12
GRACE_S = 5.0


class VenvEngine:
    """Runs stages as child processes. Isolation is by process and environment only; a container's is stronger."""

    kind: EngineKind = "venv"

    def __init__(self, shared: Path, venvs: Path, settings: PackageSettings) -> None:
        self._shared = shared
        self._venvs = venvs
        self._settings = settings

    def prepare(self, toolchain: Toolchain, on_event: EventSink) -> bool:
        """Make the environment of a toolchain unless it is there; True if it was made. EngineError if uv fails."""
        folder = self.folder(toolchain)
        if (folder / READY).is_file():
            return False
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if (folder / READY).is_file():
                return False
            # A folder without the mark was cut short: uv's hard links make starting over cheap.
            shutil.rmtree(folder, ignore_errors=True)
            log = folder.with_suffix(".log")
            log.write_text("")
            self._uv(["venv", "--python", self._python(), str(folder)], toolchain, log, on_event)
            install = ["pip", "install", "--require-hashes", "--no-deps", "--requirements", str(toolchain.lock)]
            self._uv([*install, "--python", str(folder / BIN / "python")], toolchain, log, on_event)
            (folder / READY).write_text(toolchain.digest(self.kind))
        return True

    def folder(self, toolchain: Toolchain) -> Path:
        """Where a toolchain's environment lies; another lock is another folder."""
        return self._venvs / f"{toolchain.name}-{toolchain.digest(self.kind)[:12]}"

    def python(self, toolchain: Toolchain) -> Path:
        """The interpreter of a prepared toolchain."""
        return self.folder(toolchain) / BIN / "python"

    def run(self, toolchain: Toolchain, job: Job, on_event: EventSink) -> Outcome:
        """Run one stage call in the toolchain's environment, to its end or its deadline."""
        with tempfile.TemporaryDirectory(prefix="call-", dir=job.output.parent) as name:
            folder = Path(name)
            scratch, fills = folder / "scratch", folder / "hub"
            scratch.mkdir()
            fills.mkdir()
            paths = CallPaths(
                inputs={role: str(path) for role, path in job.inputs.items()},
                output=str(job.output),
                scratch=str(scratch),
                result=str(folder / "result.json"),
                cache=str(job.hub_cache) if job.network and job.hub_cache and job.hub_cache.is_dir() else None,
                fills=str(fills) if job.network else None,
                parent_pid=os.getpid(),
            )
            call = write_call(job, folder, paths)
            exit_code = self._execute(
                [str(self.python(toolchain)), "-m", "stagelib", str(call)], job, scratch, on_event
            )
            outcome = read_outcome(job, folder, exit_code)
            if job.network and job.hub_cache:
                merge_hub_cache(fills, job.hub_cache)
            return outcome

    def close(self) -> None:
        """Nothing stays open between calls."""

    def _execute(self, command: list[str], job: Job, scratch: Path, on_event: EventSink) -> int:
        environment = self._environment(job, scratch)
        with job.log.open("wb") as log, _child(command, environment, log, scratch) as child:
            # The stage ends itself at its deadline; this is for a stage whose interpreter no longer answers.
            killer = threading.Timer(job.deadline_s + GRACE_S, child.kill)
            killer.daemon = True
            killer.start()
            try:
                assert child.stdout is not None
                for line in child.stdout:
                    if event := parse_event(line):
                        on_event(event)
                return child.wait()
            finally:
                killer.cancel()

    def _environment(self, job: Job, scratch: Path) -> dict[str, str]:
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        environment |= {
            "PYTHONPATH": str(self._shared),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "PYTHONNOUSERSITE": "1",
            "HOME": str(scratch),
            "TMPDIR": str(scratch),
            "HF_HUB_OFFLINE": "1",
        }
        if job.network:
            del environment["HF_HUB_OFFLINE"]
            environment |= network_environment(self._settings)
        return environment

    def _python(self) -> str:
        """The Python the locks were made for: this one, or the one that uv finds on the machine."""
        this = f"{sys.version_info.major}.{sys.version_info.minor}"
        return sys.executable if this == LOCKED_PYTHON else LOCKED_PYTHON

    def _uv(self, arguments: list[str], toolchain: Toolchain, log: Path, on_event: EventSink) -> None:
        command = [uv.find_uv_bin(), "--no-config", "--no-progress", "--no-python-downloads", *arguments]
        environment = os.environ | self._settings.uv_environment()
        environment.pop("VIRTUAL_ENV", None)
        tail: deque[str] = deque(maxlen=LAST_LINES)
        with (
            log.open("a") as file,
            subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
            ) as child,
        ):
            assert child.stdout is not None
            for line in child.stdout:
                file.write(line)
                tail.append(line.rstrip())
                on_event(Event(kind="log", text=line.strip()))
        if child.returncode != 0:
            raise EngineError(
                f"can't make the virtual environment of toolchain {toolchain.name!r}",
                why="\n       ".join(line for line in tail if line),
                hint=install_hint("\n".join(tail)),
                log=log,
            )


@contextmanager
def _child(
    command: list[str], environment: Mapping[str, str], log: object, cwd: Path
) -> Iterator[subprocess.Popen[str]]:
    """A stage's process in a group of its own, so that nothing of it is left however this ends."""
    child = subprocess.Popen(
        command,
        env=dict(environment),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,  # type: ignore[call-overload]
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        yield child
    finally:
        if child.poll() is None:
            _kill_group(child)
            child.wait()
        if child.stdout:
            child.stdout.close()


def _kill_group(child: subprocess.Popen[str]) -> None:
    if sys.platform == "win32":
        child.kill()
    else:
        os.killpg(child.pid, signal.SIGKILL)
