"""An engine that only pretends, plans for it, and the executor that runs them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from portwright.board import Board
from portwright.calls import RecipePlan, StageCall
from portwright.devices import Access
from portwright.digests import DigestMemory
from portwright.engines.base import EventSink, Job, Outcome
from portwright.engines.kinds import EngineKind
from portwright.errors import EngineError
from portwright.executor import End, Executor, Work
from portwright.plan import Planner
from portwright.project import this_project
from portwright.request import load_catalog
from portwright.scheduler import Capacity
from portwright.shelf import Shelf
from portwright.sources import parse_data, parse_model
from portwright.toolchain import Toolchain

PROJECT = this_project()
ONE_CORE = Capacity(cores=1, memory=1 << 40)
TWO_CORES = Capacity(cores=2, memory=1 << 40)


class PretendEngine:
    """Writes one file a stage and notes what it was asked."""

    kind: EngineKind = "venv"

    def __init__(self, meanwhile: Callable[[Job], None] = lambda _: None) -> None:
        self.ran: list[str] = []
        self.prepared: list[str] = []
        self.labels: list[str] = []
        self.threads: dict[str, int | None] = {}
        self.verdict = "valid"
        self.unbuildable: set[str] = set()
        self.stopped = threading.Event()
        self._meanwhile = meanwhile

    def prepare(self, toolchain: Toolchain, on_event: EventSink) -> bool:
        del on_event
        self.prepared.append(toolchain.name)
        if toolchain.name in self.unbuildable:
            raise EngineError(f"can't build {toolchain.name}")
        return True

    def run(self, toolchain: Toolchain, job: Job, on_event: EventSink) -> Outcome:
        del toolchain, on_event
        self.ran.append(job.stage)
        self.labels.append(job.label)
        self.threads[job.label] = job.threads
        (job.output / "made.json").write_text(json.dumps([job.stage, dict(job.params)]))
        self._meanwhile(job)
        return Outcome(facts={"verdict": self.verdict}, seconds=1.0, cpu_seconds=1.0, peak_memory_bytes=1, versions={})

    def capacity(self) -> Capacity:
        return ONE_CORE

    def stop(self) -> None:
        self.stopped.set()

    def admit(self, access: Access) -> None:
        pass

    def close(self) -> None:
        pass


def plan_of(target: str, recipe: str, data: Path) -> RecipePlan:
    """The plan of a recipe for a tiny synthetic model."""
    catalog = load_catalog(PROJECT)
    memory = DigestMemory(Path("nowhere"))
    [(chosen, found)] = catalog.recipes_for(catalog.select(target), recipe)
    model = parse_model("synthetic:bert-tiny", "main", memory)
    return Planner(catalog, "venv").plan(chosen, found, model, parse_data(str(data), memory))


def execute(
    tmp_path: Path,
    engine: PretendEngine,
    works: Mapping[str, Sequence[StageCall]],
    *,
    again: bool = False,
    capacity: Capacity = ONE_CORE,
) -> dict[str, End]:
    """How works ended, by label."""
    ends: dict[str, End] = {}
    executor = Executor(Shelf(tmp_path / "artifacts"), engine, Board(), PROJECT.shared, capacity)
    executor.run(
        [
            Work(label=name, calls=calls, again=again, ended=partial(ends.__setitem__, name))
            for name, calls in works.items()
        ]
    )
    return ends
