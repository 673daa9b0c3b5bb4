"""Runs the calls of a plan on an engine, each at most once, and keeps what comes out."""

from __future__ import annotations

import datetime
import os
import shutil
import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from portwright.board import Board
from portwright.calls import CallInput, StageCall
from portwright.devices import Access
from portwright.disk import storage_error
from portwright.engines.base import Engine, Job, Outcome
from portwright.errors import DataError, EngineError, ModelError, StageFailedError
from portwright.history import History, Measurement, this_host
from portwright.locks import machine_wide
from portwright.sources import LocalSource, has_links, model_files
from portwright.stages import StageLibrary
from portwright.store import Artifact, Manifest, Passed, Store
from portwright.toolchain import Toolchain

AGAIN = "run the same command again"
MEASURING = "portwright-measuring"
IDENTITY_DIGITS = 12


@dataclass(frozen=True, kw_only=True)
class Done:
    """A call with its outcome: an artifact, or the measurement that is shown for it."""

    call: StageCall
    cached: bool
    artifact: Artifact | None = None
    measurement: Measurement | None = None

    @property
    def facts(self) -> dict[str, Any]:
        return self._record.facts

    @property
    def versions(self) -> dict[str, str]:
        return self._record.versions

    @property
    def seconds(self) -> float:
        return self._record.seconds

    @property
    def peak_memory_bytes(self) -> int:
        return self._record.peak_memory_bytes

    @property
    def _record(self) -> Manifest | Measurement:
        record = self.artifact.manifest if self.artifact else self.measurement
        assert record is not None
        return record


class Shelf:
    """What is already there: artifacts by key, measurements by key, device and host."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root)
        self.history = History(root)

    def find(self, call: StageCall) -> Done | None:
        """The outcome of an earlier run, or None."""
        if call.kind == "artifact":
            artifact = self.store.get(call.key)
            return Done(call=call, cached=True, artifact=artifact) if artifact else None
        measurement = self.history.last(call.key, device_of(call), this_host())
        # A figure that means nothing is no reason not to measure again.
        if measurement is None or measurement.facts.get("verdict") == "invalid":
            return None
        return Done(call=call, cached=True, measurement=measurement)

    def find_all(self, calls: Sequence[StageCall]) -> list[Done] | None:
        """The outcome of every call, or None if one is missing."""
        found: list[Done] = []
        for call in calls:
            done = self.find(call)
            if done is None:
                return None
            found.append(done)
        return found


def device_of(call: StageCall) -> str:
    """The device a measurement asks for, as its history is filed: with another driver it is another one."""
    identity = f"-{call.identity[:IDENTITY_DIGITS]}" if call.identity else ""
    return f"{call.params.get('runtime', 'host')}-{call.params.get('device', 'cpu')}{identity}"


class Executor:
    """One run's executor. The engine is asked only for what the shelf doesn't hold."""

    def __init__(self, shelf: Shelf, engine: Engine, board: Board, shared: Path) -> None:
        self._shelf = shelf
        self._shared = shared
        self._engine = engine
        self.board = board
        self._run = uuid.uuid4().hex
        self._done: dict[str, Done] = {}
        self._prepared: set[str] = set()
        self._access: Access | None = None

    def ensure(
        self, label: str, calls: Sequence[StageCall], *, measure_again: bool = False, access: Access | None = None
    ) -> list[Done]:
        """The outcomes of `calls`, in order; what is missing is run. `measure_again` runs measurements even so.

        `access` is what the calls that ask for a device are given of this machine.
        """
        self._access = access
        results: list[Done] = []
        for number, call in enumerate(calls, start=1):
            title = f"{label} {number}/{len(calls)} {call.stage}"
            results.append(self._ensure(title, label, call, again=measure_again and call.kind == "measurement"))
        return results

    def prepare(self, toolchain: Toolchain) -> None:
        """Build a toolchain's environment unless this run did or it is there."""
        if toolchain.name in self._prepared:
            return
        if toolchain.read_again().digest(self._engine.kind) != toolchain.digest(self._engine.kind):
            raise EngineError(f"docker/{toolchain.name} or docker/base was edited during the run", hint=AGAIN)
        with self.board.step(f"toolchain {toolchain.name}") as step:
            built = self._engine.prepare(toolchain, step.event)
            step.finish("built" if built else "ready")
        self._prepared.add(toolchain.name)

    def _ensure(self, title: str, label: str, call: StageCall, *, again: bool) -> Done:
        if call.key in self._done:
            return self._done[call.key]
        done = None if again else self._shelf.find(call)
        if done is None:
            self.prepare(call.toolchain)
            with self._turn(title, call):
                done = None if again else self._shelf.find(call)
                if done is None:
                    done = self._make(title, label, call)
        if done.cached:
            self.board.line(f"{title}: cached")
        self._done[call.key] = replace(done, cached=True)
        return done

    def _turn(self, title: str, call: StageCall) -> AbstractContextManager[None]:
        """One maker a key; and one measurement at a time, whatever the host volume: two would spoil each other."""

        def waiting() -> None:
            self.board.line(f"{title}: waiting for another run")

        if call.kind == "measurement":
            return machine_wide(MEASURING, waiting)
        return self._shelf.store.locked(call.key, waiting)

    def _make(self, title: str, label: str, call: StageCall) -> Done:
        with self._shelf.store.workspace() as work:
            output = work / "output"
            output.mkdir()
            job = Job(
                stage=call.stage,
                params=call.params,
                inputs={role: self._path(given, work) for role, given in call.inputs.items()},
                output=output,
                log=self._log(call),
                network=call.network,
                hub_cache=hub_home() if call.network else None,
                label=f"{label}/{call.stage}",
                also_versions=call.versions_of,
                access=self._access if call.device else None,
            )
            with self.board.step(title) as step:
                outcome = self._engine.run(call.toolchain, job, step.event)
                step.finish(f"{outcome.seconds:.1f} s")
            # The key was computed before: what was read since must be what it speaks of.
            self._unchanged(call)
            return self._keep(call, output, outcome)

    def _unchanged(self, call: StageCall) -> None:
        """Raise for a source file or an input of the user's that was edited while the stage ran."""
        library = StageLibrary(self._shared)
        if library.source_digest(*call.modules) != call.components["source"]:
            raise StageFailedError(f"the source of stage {call.stage!r} was edited while it ran", hint=AGAIN)
        for given in call.inputs.values():
            if given.local is not None and given.local.read_again() != given.local.digest:
                error = ModelError if given.local.path.is_dir() else DataError
                raise error(f"{given.local.path} was changed while it was read", hint=AGAIN)

    def _keep(self, call: StageCall, output: Path, outcome: Outcome) -> Done:
        if call.kind == "artifact":
            made = self._shelf.store.put(output, self._manifest(call, outcome), self._passed(call, outcome))
            return Done(call=call, cached=False, artifact=made)
        measurement = Measurement(
            taken=now(),
            run=self._run,
            key=call.key,
            stage=call.stage,
            engine=self._engine.kind,
            device=device_of(call),
            host=this_host(),
            facts=dict(outcome.facts),
            samples=tuple(dict(sample) for sample in outcome.samples),
            versions=dict(outcome.versions),
            seconds=outcome.seconds,
            peak_memory_bytes=outcome.peak_memory_bytes,
        )
        self._shelf.history.append(measurement)
        return Done(call=call, cached=False, measurement=measurement)

    def _passed(self, call: StageCall, outcome: Outcome) -> dict[str, Passed]:
        """What the stage passes on of its inputs; StageFailedError for what is no artifact: it may change."""
        passed = {}
        for name, (role, source) in outcome.passed.items():
            given = call.inputs.get(role)
            if given is None or given.call is None:
                raise StageFailedError(f"stage {call.stage!r} passes on a file of {role!r}, which is no artifact")
            artifact = self._done[given.call.key].artifact
            assert artifact is not None
            passed[name] = Passed(artifact, source)
        return passed

    def _manifest(self, call: StageCall, outcome: Outcome) -> dict[str, Any]:
        return {
            "key": call.key,
            "stage": call.stage,
            "engine": self._engine.kind,
            "toolchain": call.toolchain.name,
            "components": dict(call.components),
            "facts": dict(outcome.facts),
            "versions": dict(outcome.versions),
            "seconds": outcome.seconds,
            "peak_memory_bytes": outcome.peak_memory_bytes,
            "created": now(),
        }

    def _path(self, given: CallInput, work: Path) -> Path:
        if given.call is not None:
            artifact = self._done[given.call.key].artifact
            assert artifact is not None
            return artifact.files
        assert given.local is not None
        return plain_folder(given.local, work)

    def _log(self, call: StageCall) -> Path:
        folder = self._shelf.store.root / "logs"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(folder, error) from error
        return folder / f"{call.stage}-{call.key[:12]}.log"


def plain_folder(local: LocalSource, work: Path) -> Path:
    """A local source without links: a hub cache's snapshot is links to files that a container would not see."""
    if local.path.is_file() or not has_links(local.path):
        return local.path
    folder = work / "plain"
    for name, path in model_files(local.path).items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path.resolve(), target)
        except OSError:
            shutil.copyfile(path, target)
    return folder


def hub_home() -> Path | None:
    """The caller's HF_HOME, as huggingface_hub finds it; None for a caller without a home."""
    try:
        if chosen := os.environ.get("HF_HOME"):
            return Path(chosen).expanduser().resolve()
        cache = os.environ.get("XDG_CACHE_HOME")
        return (Path(cache) if cache else Path.home() / ".cache") / "huggingface"
    except RuntimeError:
        return None


def now() -> str:
    """The time, ISO 8601, UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
