"""Makes one call at a time of each thread that asks: its lock, its job, and that what comes out is kept."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portwright.board import Board
from portwright.calls import CallInput, StageCall
from portwright.devices import Access
from portwright.disk import storage_error
from portwright.engines.base import Engine, Event, EventSink, Job, Outcome
from portwright.errors import DataError, EngineError, ModelError, StageFailedError
from portwright.history import Measurement, this_host
from portwright.scheduler import Grant
from portwright.shelf import Done, Shelf, device_of
from portwright.sources import LocalSource, has_links, model_files
from portwright.stages import StageLibrary
from portwright.store import Artifact, Passed
from portwright.toolchain import Toolchain
from stagelib.machinelock import MEASURING, machine_wide

AGAIN = "run the same command again"


@dataclass(frozen=True, kw_only=True)
class Order:
    """A call to be made, as its run shows it and with what it is given."""

    call: StageCall
    label: str
    """Readable name of the recipe that asked for it first: its target."""
    title: str
    again: bool = False
    """Whether it is made even if it is there."""
    access: Access | None = None
    """What of this machine a call that asks for a device is given."""


class Maker:
    """Runs calls on an engine. Every method may be called by several threads; `go_on` raises where they are to end."""

    def __init__(self, shelf: Shelf, engine: Engine, board: Board, shared: Path, go_on: Callable[[], None]) -> None:
        self._shelf = shelf
        self._shared = shared
        self._engine = engine
        self._board = board
        self._go_on = go_on
        self._run = uuid.uuid4().hex
        self._read: dict[LocalSource, tuple[tuple[str, int, int, int, int], ...]] = {}
        """The stamps that local sources had before they were read again."""

    def prepare(self, toolchain: Toolchain) -> None:
        """Build a toolchain's environment unless it is there."""
        if toolchain.read_again().digest(self._engine.kind) != toolchain.digest(self._engine.kind):
            raise EngineError(f"docker/{toolchain.name} or docker/base was edited during the run", hint=AGAIN)
        with self._board.step(f"toolchain {toolchain.name}") as step:
            built = self._engine.prepare(toolchain, self._sink(step.event))
            step.finish("built" if built else "ready")

    def make(self, order: Order, grant: Grant, inputs: dict[str, Artifact]) -> Done:
        """The outcome of a call whose toolchain is prepared; `inputs` holds the artifacts it takes, by key."""
        with self._turn(order, alone=grant.need.alone):
            # Another run may have made it meanwhile.
            done = None if order.again else self._shelf.find(order.call)
            return done or self._made(order, grant, inputs)

    @contextlib.contextmanager
    def _turn(self, order: Order, *, alone: bool) -> Iterator[None]:
        """One maker a key; and one that measures time on this machine, whatever the host volume: two would spoil each
        other's figures."""
        told = False

        def waiting() -> None:
            nonlocal told
            self._go_on()
            if not told:
                self._board.line(f"{order.title}: waiting for another run")
                told = True

        with contextlib.ExitStack() as stack:
            stack.enter_context(self._shelf.store.locked(order.call.key, waiting))
            if alone:
                stack.enter_context(machine_wide(MEASURING, waiting))
            yield

    def _made(self, order: Order, grant: Grant, inputs: dict[str, Artifact]) -> Done:
        call = order.call
        with self._shelf.store.workspace() as work:
            output = work / "output"
            output.mkdir()
            job = Job(
                stage=call.stage,
                params=call.params,
                inputs={role: _path(given, inputs, work) for role, given in call.inputs.items()},
                output=output,
                log=self._log(call),
                network=call.network,
                hub_cache=hub_home() if call.network else None,
                label=f"{order.label}/{call.stage}",
                also_versions=call.versions_of,
                access=order.access if call.device else None,
                threads=None if grant.need.alone else grant.cores,
                alone=grant.need.alone,
                memory=grant.need.memory,
            )
            with self._board.step(order.title) as step:
                outcome = self._engine.run(call.toolchain, job, self._sink(step.event))
                step.finish(f"{outcome.seconds:.1f} s")
            # The key was computed before: what was read since must be what it speaks of.
            self._unchanged(call)
            return self._keep(call, output, outcome, inputs)

    def _sink(self, show: EventSink) -> EventSink:
        def sink(event: Event) -> None:
            self._go_on()
            show(event)

        return sink

    def _unchanged(self, call: StageCall) -> None:
        """Raise for a source file or an input of the user's that was edited while the stage ran."""
        library = StageLibrary(self._shared)
        if library.source_digest(*call.modules) != call.components["source"]:
            raise StageFailedError(f"the source of stage {call.stage!r} was edited while it ran", hint=AGAIN)
        for given in call.inputs.values():
            if given.local is not None and not self._is_what_it_was(given.local):
                error = ModelError if given.local.path.is_dir() else DataError
                raise error(f"{given.local.path} was changed while it was read", hint=AGAIN)

    def _is_what_it_was(self, local: LocalSource) -> bool:
        """Read once a run, and again only where a file was written since: a model is hundreds of megabytes."""
        stamps = local.stamps()
        if self._read.get(local) != stamps:
            if local.read_again() != local.digest:
                return False
            self._read[local] = stamps
        return True

    def _keep(self, call: StageCall, output: Path, outcome: Outcome, inputs: Mapping[str, Artifact]) -> Done:
        if call.kind == "artifact":
            passed = _passed(call, outcome, inputs)
            made = self._shelf.store.put(output, self._manifest(call, outcome), passed)
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
            cpu_seconds=outcome.cpu_seconds,
            peak_memory_bytes=outcome.peak_memory_bytes,
        )
        self._shelf.history.append(measurement)
        return Done(call=call, cached=False, measurement=measurement)

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
            "cpu_seconds": outcome.cpu_seconds,
            "peak_memory_bytes": outcome.peak_memory_bytes,
            "created": now(),
        }

    def _log(self, call: StageCall) -> Path:
        folder = self._shelf.store.root / "logs"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(folder, error) from error
        return folder / f"{call.stage}-{call.key[:12]}.log"


def _passed(call: StageCall, outcome: Outcome, inputs: Mapping[str, Artifact]) -> dict[str, Passed]:
    """What the stage passes on of its inputs; StageFailedError for what is no artifact: it may change."""
    passed = {}
    for name, (role, source) in outcome.passed.items():
        given = call.inputs.get(role)
        if given is None or given.call is None:
            raise StageFailedError(f"stage {call.stage!r} passes on a file of {role!r}, which is no artifact")
        passed[name] = Passed(inputs[given.call.key], source)
    return passed


def _path(given: CallInput, inputs: dict[str, Artifact], work: Path) -> Path:
    if given.call is not None:
        return inputs[given.call.key].files
    assert given.local is not None
    return plain_folder(given.local, work)


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
