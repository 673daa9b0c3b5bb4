"""The engine that needs no daemon: one uv virtual environment a toolchain, made from the same hash locks."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import uv

from portwright.capacity import this_machine
from portwright.devices import Access, group_name, may_open
from portwright.engines.base import Event, EventSink, Job, Outcome
from portwright.engines.call import (
    FREE_SPACE,
    NO_SPACE_TEXT,
    CallPaths,
    job_environment,
    merge_hub_cache,
    network_environment,
    parse_event,
    read_outcome,
    write_call,
)
from portwright.engines.child import running
from portwright.engines.kinds import EngineKind
from portwright.engines.running import Running
from portwright.errors import EngineError, PortwrightError, StoreError
from portwright.locks import inherited
from portwright.packages import PackageSettings, install_hint
from portwright.scheduler import Capacity
from portwright.toolchain import Toolchain
from portwright.vendor import manifest

READY = ".portwright-ready"
BYTECODE = "bytecode"
PYTHON = "Scripts/python.exe" if sys.platform == "win32" else "bin/python"
WINDOWS = ("SYSTEMROOT", "WINDIR", "COMSPEC", "PROGRAMDATA", "PROCESSOR_ARCHITECTURE", "NUMBER_OF_PROCESSORS")
"""Names that only Windows has: a process starts there, a driver finds its files and Python the processor by them."""
PASSED_ON = ("PATH", "LANG", "LC_ALL", *WINDOWS, "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""What a stage may see of the caller's environment: enough to start it.

The last two choose numpy's kernels. They are in no key, as the processor is in none, and may change last digits; they
are passed on because on some processors what OpenBLAS chooses by itself computes wrongly.
"""
LOCKED_PYTHON = "3.11"
NO_PYTHON_HINT = (
    f"install it (apt-get install python{LOCKED_PYTHON} where your release has it, "
    f"or .venv/bin/uv python install {LOCKED_PYTHON}), or use --engine=docker"
)
LIBRARY_PATH = "LD_LIBRARY_PATH"
LAST_LINES = 12
GRACE_S = 5.0


class VenvEngine:
    """Runs stages as child processes. Isolation is by process and environment only; a container's is stronger."""

    kind: EngineKind = "venv"

    def __init__(self, shared: Path, venvs: Path, settings: PackageSettings) -> None:
        self._shared = shared
        # Bytecode is kept by its sources' paths: through a link they would be others, and be compiled anew.
        self._venvs = venvs.resolve()
        self._settings = settings
        self._running = Running()

    def prepare(self, toolchain: Toolchain, on_event: EventSink) -> bool:
        """Make the environment of a toolchain unless it is there; True if it was made. EngineError if uv fails."""
        folder = self.folder(toolchain)
        if (folder / READY).is_file():
            return False
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_suffix(".lock"), on_event) as lock:
            if (folder / READY).is_file():
                return False
            self._make(toolchain, lock, on_event)
        return True

    def folder(self, toolchain: Toolchain) -> Path:
        """Where a toolchain's environment lies; another lock is another folder."""
        return self._venvs / f"{toolchain.name}-{toolchain.digest(self.kind)[:12]}"

    def python(self, toolchain: Toolchain) -> Path:
        """The interpreter of a prepared toolchain."""
        return self.folder(toolchain) / PYTHON

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
                [str(self.python(toolchain)), "-m", "stagelib", str(call)],
                job,
                self._environment(job, scratch, self.folder(toolchain) / BYTECODE),
                on_event,
            )
            outcome = read_outcome(job, folder, exit_code)
            if job.network and job.hub_cache:
                merge_hub_cache(fills, job.hub_cache, on_event)
            return outcome

    def admit(self, access: Access) -> None:
        """EngineError where this user may not open one of the device's nodes."""
        for node in access.nodes:
            if not may_open(node):
                raise EngineError(
                    f"device {access.name!r} ({access.title}) is there, but you may not open {node}",
                    hint=f"join its group (sudo usermod --append --groups {group_name(node.gid)} $USER) "
                    "and log in again",
                )

    def capacity(self) -> Capacity:
        """This machine's, as far as this process may use it."""
        return this_machine()

    def stop(self) -> None:
        """Kill stages and installers."""
        self._running.stop()

    def close(self) -> None:
        """Nothing stays open between calls."""

    def _execute(self, command: list[str], job: Job, environment: dict[str, str], on_event: EventSink) -> int:
        # The stage ends itself at its deadline; this one is for a stage whose interpreter no longer answers.
        deadline_s = job.deadline_s + GRACE_S
        with (
            job.log.open("wb") as log,
            running(command, environment, errors_to=log, cwd=Path(environment["HOME"]), deadline_s=deadline_s) as child,
            self._running.holding(child.kill),
        ):
            for line in child.lines():
                if event := parse_event(line):
                    on_event(event)
            return child.end()

    def _environment(self, job: Job, scratch: Path, bytecode: Path) -> dict[str, str]:
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        environment |= {
            "PYTHONPATH": str(self._shared),
            # Compiling a vendor's package takes seconds at every stage; beside the sources it would touch uv's cache.
            "PYTHONPYCACHEPREFIX": str(bytecode),
            "PYTHONUNBUFFERED": "1",
            "PYTHONNOUSERSITE": "1",
            "HOME": str(scratch),
            "USERPROFILE": str(scratch),
            "TMPDIR": str(scratch),
            "HF_HUB_OFFLINE": "1",
            **job_environment(job),
        }
        if job.access is not None:
            environment |= {name: os.environ[name] for name in job.access.environment if name in os.environ}
            # A driver's libraries may lie where only its own set-up script says.
            places = [*filter(None, [os.environ.get(LIBRARY_PATH)]), *job.access.library_folders]
            environment |= {LIBRARY_PATH: os.pathsep.join(places)} if places else {}
        if job.network:
            del environment["HF_HUB_OFFLINE"]
            environment |= network_environment(self._settings)
        return environment

    def _make(self, toolchain: Toolchain, lock: Sequence[int], on_event: EventSink) -> None:
        """Make the environment anew; EngineError if uv fails."""
        folder = self.folder(toolchain)
        # A folder without the mark was cut short: uv's hard links make starting over cheap.
        shutil.rmtree(folder, ignore_errors=True)
        log = folder.with_suffix(".log")
        log.write_text("")
        install = ["pip", "install", "--require-hashes", "--no-deps", "--requirements", str(toolchain.lock)]
        for arguments in (
            ["venv", "--python", self._python(lock), str(folder)],
            [*install, "--python", str(folder / PYTHON)],
        ):
            code, lines = self._uv(arguments, lock, log, on_event)
            if code != 0:
                raise _not_made(toolchain, lines, log)
        self._unpack(toolchain, lock, log, on_event)
        (folder / READY).write_text(toolchain.digest(self.kind))

    def _unpack(self, toolchain: Toolchain, lock: Sequence[int], log: Path, on_event: EventSink) -> None:
        """Build the vendor archives that are there into the new environment."""
        if not toolchain.archives:
            return
        listed = self.folder(toolchain).with_suffix(".archives.json")
        listed.write_bytes(manifest({archive: archive.path for archive in toolchain.archives}))
        command = [str(self.python(toolchain)), str(toolchain.unpacker), str(listed), uv.find_uv_bin()]
        code, lines = self._child(command, lock, log, on_event)
        if code != 0:
            raise _not_made(toolchain, lines, log)

    def _python(self, lock: Sequence[int]) -> str:
        """The Python the locks were made for: this one, or the one that uv finds on the machine."""
        if f"{sys.version_info.major}.{sys.version_info.minor}" == LOCKED_PYTHON:
            return sys.executable
        code, lines = self._uv(["python", "find", LOCKED_PYTHON], lock, Path(os.devnull), lambda _: None)
        if code != 0 or not lines:
            raise EngineError(
                f"the toolchain locks are for Python {LOCKED_PYTHON}, which isn't on this machine",
                why="\n       ".join(lines),
                hint=NO_PYTHON_HINT,
            )
        return lines[-1]

    def _uv(self, arguments: list[str], lock: Sequence[int], log: Path, on_event: EventSink) -> tuple[int, list[str]]:
        """Run uv: its exit code and last lines."""
        command = [uv.find_uv_bin(), "--no-config", "--no-progress", "--no-python-downloads", *arguments]
        return self._child(command, lock, log, on_event)

    def _child(self, command: list[str], lock: Sequence[int], log: Path, on_event: EventSink) -> tuple[int, list[str]]:
        """Run an installer. It holds the lock itself, so that it outlives no lock if this dies."""
        environment = os.environ | self._settings.uv_environment()
        environment.pop("VIRTUAL_ENV", None)
        if _homeless():
            # uv would keep its cache in the current folder.
            environment.setdefault("UV_NO_CACHE", "1")
        last: deque[str] = deque(maxlen=LAST_LINES)
        with (
            log.open("a") as file,
            running(command, environment, held=lock) as child,
            self._running.holding(child.kill),
        ):
            for line in child.lines():
                file.write(line)
                if line.strip():
                    last.append(line.strip())
                    on_event(Event(kind="log", text=line.strip()))
            return child.end(), list(last)


def _homeless() -> bool:
    """Whether this user has no home: HOME unset, and no entry among the system's users (a container's, often)."""
    try:
        Path.home()
    except RuntimeError:
        return not os.environ.get("XDG_CACHE_HOME")
    return False


def _locked(path: Path, on_event: EventSink) -> AbstractContextManager[Sequence[int]]:
    """Hold a lock file; what yields is for the children that make the environment. Says so where it has to wait."""
    return inherited(
        path, lambda: on_event(Event(kind="log", text="another run makes this environment: waiting for it"))
    )


def _not_made(toolchain: Toolchain, lines: list[str], log: Path) -> PortwrightError:
    """Why uv could not make an environment; a full disk is the host volume's fault, not the engine's."""
    message = f"can't make the virtual environment of toolchain {toolchain.name!r}"
    text = "\n".join(lines)
    if NO_SPACE_TEXT.search(text):
        return StoreError(message, why=f"no space is left on the disk of {log.parent}", hint=FREE_SPACE, log=log)
    return EngineError(message, why="\n       ".join(lines), hint=install_hint(text), log=log)
