"""The border between the plan and whatever executes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from portwright.devices import Access
from portwright.engines.kinds import EngineKind
from portwright.scheduler import Capacity
from portwright.toolchain import Toolchain


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something a running stage or a build says: a share of work done (0 to 1), or a line of text."""

    kind: Literal["progress", "log"]
    text: str = ""
    done: float | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """One stage call with the host's directories it may touch. Whatever the engine, the stage sees the same content."""

    stage: str
    params: Mapping[str, Any]
    inputs: Mapping[str, Path]
    """Role to a directory or file of this host, given read-only."""
    output: Path
    """An empty directory; what the stage writes there becomes the artifact."""
    log: Path
    """Where the stage's standard error is kept."""
    network: bool = False
    hub_cache: Path | None = None
    """The caller's HF_HOME, if it exists: offered read-only to a stage with network, and filled after its success."""
    label: str = ""
    """Readable name, for container names and messages: `target/stage`."""
    also_versions: Sequence[str] = ()
    """Further distributions whose versions the result records."""
    access: Access | None = None
    """Devices of this machine that the call is given; None for none."""
    threads: int | None = None
    """Cores that it shares the machine with others on: its libraries start no more threads. None for no such limit."""
    alone: bool = False
    """It measures time: its process gets nothing that the model's won't have where it serves."""
    memory: int = 0
    """Bytes it is expected to take. No limit: a stage that takes more is not ended for it."""
    deadline_s: float = 7200.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a finished stage reported."""

    facts: Mapping[str, Any]
    seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    versions: Mapping[str, str]
    samples: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    passed: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Files of the output that are one of an input, unchanged: name to the input's role and the name there. They were
    not written."""


EventSink = Callable[[Event], None]


class Engine(Protocol):
    """Runs stage calls, several at a time where they come from several threads.

    Raises EngineError where it can't, and StageFailedError, ModelError or DataError where a stage says so.
    """

    kind: EngineKind

    def prepare(self, toolchain: Toolchain, on_event: EventSink) -> bool:
        """Build the image or the virtual environment unless it is there; True if something was built."""

    def run(self, toolchain: Toolchain, job: Job, on_event: EventSink) -> Outcome:
        """Run one stage call to its end. `prepare` came first."""

    def capacity(self) -> Capacity:
        """Cores and memory that stages may use now, where they run."""

    def stop(self) -> None:
        """End whatever runs, from any thread; calls and preparations in other threads then raise."""

    def admit(self, access: Access) -> None:
        """Raise EngineError where this engine can't hand a device to a stage, before anything is built for it."""

    def close(self) -> None:
        """Give back connections and temporary things; safe to call twice."""
