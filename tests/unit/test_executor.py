"""The executor, with an engine that only pretends: what runs, what doesn't, and what is refused."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from portwright.bundle_files import Packed
from portwright.calls import RecipePlan, StageCall
from portwright.engines.base import EventSink, Job, Outcome
from portwright.errors import DataError, PortwrightError, StageFailedError
from portwright.outcomes import Outcomes
from portwright.shelf import Done, Shelf
from portwright.sources import LocalSource
from portwright.summary import about
from portwright.toolchain import Toolchain
from stagelib import machinelock
from support.pretend import PretendEngine, execute, plan_of


@pytest.fixture(autouse=True)
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for what this machine measures meanwhile."""
    folder = tmp_path / "shared-locks"
    folder.mkdir()
    monkeypatch.setattr(machinelock, "SHARED", folder)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"premise": "a", "hypothesis": "b", "label": 0}\n')
    return path


@pytest.fixture
def plan(data: Path) -> RecipePlan:
    return plan_of("cpu", "bert-base-portuguese-cased_fp32_cpu", data)


def ensure(tmp_path: Path, engine: PretendEngine, calls: Sequence[StageCall], *, again: bool = False) -> list[Done]:
    """The outcomes of one work's calls, run one after the other; raises what ended it."""
    end = execute(tmp_path, engine, {"cpu": calls}, again=again)["cpu"]
    if isinstance(end, PortwrightError):
        raise end
    return end


def test_everything_runs_once_and_then_nothing(tmp_path: Path, plan: RecipePlan) -> None:
    first = PretendEngine()
    done = ensure(tmp_path, first, plan.calls)
    assert first.ran == [call.stage for call in plan.calls]
    assert first.prepared == ["exporter", "ort"]
    assert not any(item.cached for item in done)
    second = PretendEngine()
    again = ensure(tmp_path, second, plan.calls)
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
    done = {item.call.stage: item.artifact for item in ensure(tmp_path, PassingOn("source"), calls)}
    given, exported = done["synthesize"], done["export"]
    assert given is not None
    assert exported is not None
    assert list(exported.manifest.files) == ["sub/same"]
    assert exported.manifest.files["sub/same"].sha256 == given.manifest.files["made.json"].sha256
    assert (exported.files / "sub" / "same").samefile(given.files / "made.json")


def test_what_may_still_change_is_not_passed_on(tmp_path: Path, plan: RecipePlan) -> None:
    with pytest.raises(StageFailedError, match="passes on a file of 'local', which is no artifact"):
        ensure(tmp_path, PassingOn("local"), plan.calls)


def test_measuring_again_reruns_measurements_alone(tmp_path: Path, plan: RecipePlan) -> None:
    ensure(tmp_path, PretendEngine(), plan.calls)
    engine = PretendEngine()
    ensure(tmp_path, engine, plan.calls, again=True)
    assert engine.ran == ["evaluate", "benchmark"]


def test_a_bundle_names_the_stage_that_made_it_and_not_one_that_was_left_out(tmp_path: Path, data: Path) -> None:
    """Without AMD's archive nothing is compiled by it, and the manifest says so."""
    plan = plan_of("vitisai", "bert-base-portuguese-cased_a16w8_amd", data)
    done = ensure(tmp_path, PretendEngine(), plan.calls)
    manifest = about(Outcomes(plan, done))
    assert manifest["recipe"]["stages"][-1]["stage"] == "compile_vitisai"
    nothing: Any = None
    packed = Packed(
        wanted=nothing, view=tmp_path, result=nothing, manifest=manifest, batches=nothing, reference=nothing
    )
    assert packed.made_by == plan.chain[-1].stage == "metadata"


def test_a_measurement_with_another_driver_is_not_the_current_one(tmp_path: Path, plan: RecipePlan) -> None:
    calls = [*plan.calls[:-1], replace(plan.calls[-1], identity="a" * 64)]
    ensure(tmp_path, PretendEngine(), calls)
    engine = PretendEngine()
    ensure(tmp_path, engine, [*calls[:-1], replace(calls[-1], identity="b" * 64)])
    assert engine.ran == ["benchmark"]
    ensure(tmp_path, again := PretendEngine(), calls)
    assert again.ran == []


def test_a_measurement_that_means_nothing_is_taken_again(tmp_path: Path, plan: RecipePlan) -> None:
    engine = PretendEngine()
    engine.verdict = "invalid"
    ensure(tmp_path, engine, plan.calls)
    engine = PretendEngine()
    ensure(tmp_path, engine, plan.calls)
    assert engine.ran == ["evaluate", "benchmark"]


def test_a_stage_that_fails_keeps_what_came_before(tmp_path: Path, plan: RecipePlan) -> None:
    def fail(job: Job) -> None:
        if job.stage == "fix_shape":
            raise StageFailedError("no")

    with pytest.raises(StageFailedError):
        ensure(tmp_path, PretendEngine(fail), plan.calls)
    assert list((tmp_path / "artifacts" / "tmp").iterdir()) == []
    engine = PretendEngine()
    ensure(tmp_path, engine, plan.calls)
    assert engine.ran[0] == "fix_shape"


def test_data_that_changes_while_it_is_read_is_not_kept(tmp_path: Path, plan: RecipePlan, data: Path) -> None:
    def edit(job: Job) -> None:
        if job.stage == "read_data":
            data.write_text('{"premise": "c", "hypothesis": "d", "label": 0}\n')

    with pytest.raises(DataError, match="was changed while it was read"):
        ensure(tmp_path, PretendEngine(edit), plan.calls)
    [call] = [call for call in plan.calls if call.stage == "read_data"]
    assert Shelf(tmp_path / "artifacts").find(call) is None


def test_data_is_read_again_once_a_run_unless_it_was_written(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of("openvino", "bert-base-portuguese-cased_context_ov_static", data)
    read: list[Path] = []
    again = LocalSource.read_again

    def counted(source: LocalSource) -> str:
        read.append(source.path)
        return again(source)

    monkeypatch.setattr(LocalSource, "read_again", counted)
    takers = [call for call in plan.calls if any(given.local for given in call.inputs.values())]
    assert len(takers) > 1
    ensure(tmp_path, PretendEngine(), plan.calls)
    assert len(read) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps no time of the last change of state")
def test_data_that_changes_under_a_later_stage_is_found_out_whatever_its_date(tmp_path: Path, data: Path) -> None:
    plan = plan_of("openvino", "bert-base-portuguese-cased_context_ov_static", data)
    seen: list[str] = []

    def edit(job: Job) -> None:
        seen.append(job.stage)
        if seen.count("read_data") == 2 and job.stage == "read_data":
            stat = data.stat()
            data.write_text('{"premise": "c", "hypothesis": "d", "label": 0}\n')
            os.utime(data, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    with pytest.raises(DataError, match="was changed while it was read"):
        ensure(tmp_path, PretendEngine(edit), plan.calls)


def test_a_stage_whose_source_changes_while_it_runs_is_not_kept(tmp_path: Path, plan: RecipePlan) -> None:
    first = plan.calls[0]
    edited = replace(first, components={**first.components, "source": "another"})
    with pytest.raises(StageFailedError, match="was edited while it ran"):
        ensure(tmp_path, PretendEngine(), [edited])
    assert Shelf(tmp_path / "artifacts").find(edited) is None
