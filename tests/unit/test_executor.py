"""The executor, with an engine that only pretends: what runs, what doesn't, and what is refused."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from portwright import locks
from portwright.board import Board
from portwright.bundle_files import Packed
from portwright.calls import RecipePlan
from portwright.devices import Access
from portwright.digests import DigestMemory
from portwright.engines.base import EngineKind, EventSink, Job, Outcome
from portwright.errors import DataError, StageFailedError, StoreError
from portwright.executor import Executor, Shelf
from portwright.locks import Usage, held, machine_wide
from portwright.outcomes import Outcomes
from portwright.plan import Planner
from portwright.project import this_project
from portwright.run import load_catalog
from portwright.sources import parse_data, parse_model
from portwright.summary import about
from portwright.toolchain import Toolchain

PROJECT = this_project()
MEASURED = {"verdict": "valid"}


class PretendEngine:
    """Writes one file a stage and notes what it was asked."""

    kind: EngineKind = "venv"

    def __init__(self, meanwhile: Callable[[Job], None] = lambda _: None) -> None:
        self.ran: list[str] = []
        self.prepared: list[str] = []
        self.verdict = "valid"
        self._meanwhile = meanwhile

    def prepare(self, toolchain: Toolchain, on_event: EventSink) -> bool:
        del on_event
        self.prepared.append(toolchain.name)
        return True

    def run(self, toolchain: Toolchain, job: Job, on_event: EventSink) -> Outcome:
        del toolchain, on_event
        self.ran.append(job.stage)
        (job.output / "made.json").write_text(json.dumps([job.stage, dict(job.params)]))
        self._meanwhile(job)
        return Outcome(facts={"verdict": self.verdict}, seconds=1.0, peak_memory_bytes=1, versions={})

    def admit(self, access: Access) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"premise": "a", "hypothesis": "b", "label": 0}\n')
    return path


@pytest.fixture
def plan(data: Path) -> RecipePlan:
    catalog = load_catalog(PROJECT)
    memory = DigestMemory(Path("nowhere"))
    [(target, recipe)] = catalog.recipes_for(catalog.select("cpu"), "bert-base-portuguese-cased_fp32_cpu")
    model = parse_model("synthetic:bert-tiny", "main", memory)
    return Planner(catalog, "venv").plan(target, recipe, model, parse_data(str(data), memory))


def executor(tmp_path: Path, engine: PretendEngine) -> Executor:
    return Executor(Shelf(tmp_path / "artifacts"), engine, Board(), PROJECT.shared)


def test_everything_runs_once_and_then_nothing(tmp_path: Path, plan: RecipePlan) -> None:
    first = PretendEngine()
    done = executor(tmp_path, first).ensure("cpu", plan.calls)
    assert first.ran == [call.stage for call in plan.calls]
    assert first.prepared == ["exporter", "ort"]
    assert not any(item.cached for item in done)
    second = PretendEngine()
    again = executor(tmp_path, second).ensure("cpu", plan.calls)
    assert (second.ran, second.prepared) == ([], [])
    assert all(item.cached for item in again)
    assert Shelf(tmp_path / "artifacts").find_all(plan.calls) is not None


class PassingOn(PretendEngine):
    """Every stage with an input of this role passes a file of it on, and writes nothing."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def run(self, toolchain: Toolchain, job: Job, on_event: EventSink) -> Outcome:
        outcome = super().run(toolchain, job, on_event)
        if self._role not in job.inputs:
            return outcome
        (job.output / "made.json").unlink()
        return replace(outcome, passed={"sub/same": (self._role, "made.json")})


def test_what_a_stage_passes_on_is_its_inputs_file(tmp_path: Path, plan: RecipePlan) -> None:
    calls = plan.calls
    done = {item.call.stage: item.artifact for item in executor(tmp_path, PassingOn("source")).ensure("cpu", calls)}
    given, exported = done["synthesize"], done["export"]
    assert given is not None
    assert exported is not None
    assert list(exported.manifest.files) == ["sub/same"]
    assert exported.manifest.files["sub/same"].sha256 == given.manifest.files["made.json"].sha256
    assert (exported.files / "sub" / "same").samefile(given.files / "made.json")


def test_what_may_still_change_is_not_passed_on(tmp_path: Path, plan: RecipePlan) -> None:
    with pytest.raises(StageFailedError, match="passes on a file of 'local', which is no artifact"):
        executor(tmp_path, PassingOn("local")).ensure("cpu", plan.calls)


def test_measuring_again_reruns_measurements_alone(tmp_path: Path, plan: RecipePlan) -> None:
    executor(tmp_path, PretendEngine()).ensure("cpu", plan.calls)
    engine = PretendEngine()
    executor(tmp_path, engine).ensure("cpu", plan.calls, measure_again=True)
    assert engine.ran == ["evaluate", "benchmark"]


def test_a_bundle_names_the_stage_that_made_it_and_not_one_that_was_left_out(tmp_path: Path, data: Path) -> None:
    """Without AMD's archive nothing is compiled by it, and the manifest says so."""
    catalog = load_catalog(PROJECT)
    memory = DigestMemory(Path("nowhere"))
    [(target, recipe)] = catalog.recipes_for(catalog.select("vitisai"), "bert-base-portuguese-cased_a16w8_amd")
    model = parse_model("synthetic:bert-tiny", "main", memory)
    plan = Planner(catalog, "venv").plan(target, recipe, model, parse_data(str(data), memory))
    done = executor(tmp_path, PretendEngine()).ensure("vitisai", plan.calls)
    manifest = about(Outcomes(plan, done))
    assert manifest["recipe"]["stages"][-1]["stage"] == "compile_vitisai"
    nothing: Any = None
    packed = Packed(
        wanted=nothing, view=tmp_path, result=nothing, manifest=manifest, batches=nothing, reference=nothing
    )
    assert packed.made_by == plan.chain[-1].stage == "metadata"


def test_a_measurement_with_another_driver_is_not_the_current_one(tmp_path: Path, plan: RecipePlan) -> None:
    calls = [*plan.calls[:-1], replace(plan.calls[-1], identity="a" * 64)]
    executor(tmp_path, PretendEngine()).ensure("cpu", calls)
    engine = PretendEngine()
    executor(tmp_path, engine).ensure("cpu", [*calls[:-1], replace(calls[-1], identity="b" * 64)])
    assert engine.ran == ["benchmark"]
    executor(tmp_path, again := PretendEngine()).ensure("cpu", calls)
    assert again.ran == []


def test_a_measurement_that_means_nothing_is_taken_again(tmp_path: Path, plan: RecipePlan) -> None:
    engine = PretendEngine()
    engine.verdict = "invalid"
    executor(tmp_path, engine).ensure("cpu", plan.calls)
    engine = PretendEngine()
    executor(tmp_path, engine).ensure("cpu", plan.calls)
    assert engine.ran == ["evaluate", "benchmark"]


def test_a_stage_that_fails_keeps_what_came_before(tmp_path: Path, plan: RecipePlan) -> None:
    def fail(job: Job) -> None:
        if job.stage == "fix_shape":
            raise StageFailedError("no")

    with pytest.raises(StageFailedError):
        executor(tmp_path, PretendEngine(fail)).ensure("cpu", plan.calls)
    assert list((tmp_path / "artifacts" / "tmp").iterdir()) == []
    engine = PretendEngine()
    executor(tmp_path, engine).ensure("cpu", plan.calls)
    assert engine.ran[0] == "fix_shape"


def test_data_that_changes_while_it_is_read_is_not_kept(tmp_path: Path, plan: RecipePlan, data: Path) -> None:
    def edit(job: Job) -> None:
        if job.stage == "read_data":
            data.write_text('{"premise": "c", "hypothesis": "d", "label": 0}\n')

    with pytest.raises(DataError, match="was changed while it was read"):
        executor(tmp_path, PretendEngine(edit)).ensure("cpu", plan.calls)
    [call] = [call for call in plan.calls if call.stage == "read_data"]
    assert Shelf(tmp_path / "artifacts").find(call) is None


def test_a_stage_whose_source_changes_while_it_runs_is_not_kept(tmp_path: Path, plan: RecipePlan) -> None:
    first = plan.calls[0]
    edited = replace(first, components={**first.components, "source": "another"})
    with pytest.raises(StageFailedError, match="was edited while it ran"):
        executor(tmp_path, PretendEngine()).ensure("cpu", [edited])
    assert Shelf(tmp_path / "artifacts").find(edited) is None


def test_nothing_is_cleaned_under_a_run(tmp_path: Path) -> None:
    usage = Usage(tmp_path)
    with usage.in_use(), pytest.raises(StoreError, match="a run is using"), usage.cleaning():
        pass
    with usage.cleaning():
        pass


def test_one_measures_at_a_time_whatever_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "SHARED", tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "first"))
    told, free = threading.Event(), threading.Event()

    def second() -> None:
        with machine_wide("name", told.set):
            free.set()

    with machine_wide("name", lambda: pytest.fail("nobody holds it")):
        assert stat.S_IMODE((tmp_path / "name.lock").stat().st_mode) == 0o644
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "second"))
        thread = threading.Thread(target=second)
        thread.start()
        assert told.wait(10)
        assert not free.is_set()
    thread.join(10)
    assert free.is_set()


def test_a_link_in_the_locks_way_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "SHARED", tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "own"))
    (tmp_path / "own").mkdir()
    (tmp_path / "name.lock").symlink_to(tmp_path / "victim")
    with machine_wide("name", lambda: pytest.fail("nobody holds it")):
        assert [path.name for path in (tmp_path / "own").iterdir()] == [f"name-{os.getuid()}.lock"]
    assert not (tmp_path / "victim").exists()


def test_who_must_wait_is_told(tmp_path: Path) -> None:
    told, free = threading.Event(), threading.Event()

    def second() -> None:
        with held(tmp_path / "lock", told.set):
            free.set()

    with held(tmp_path / "lock", lambda: None):
        thread = threading.Thread(target=second)
        thread.start()
        assert told.wait(10)
        assert not free.is_set()
    thread.join(10)
    assert free.is_set()
