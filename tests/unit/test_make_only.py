"""`invoke run --make-only`: what ships is made, nothing is measured or judged, and a later run takes it up."""

from __future__ import annotations

from pathlib import Path

import pytest

from portwright import faces, making, run
from portwright.board import Board
from portwright.project import this_project
from portwright.reports import RunSummary
from portwright.request import Request
from portwright.store import Store
from stagelib import machinelock
from support.pretend import PretendEngine, plan_of

RECIPE = "bert-base-portuguese-cased_qdq_cpu"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"premise": "a", "hypothesis": "b", "label": 0}\n')
    return path


def make(data: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[RunSummary, PretendEngine]:
    """One `run --make-only` on a host volume beside the data, with an engine that pretends."""
    folder = data.parent / "locks"
    folder.mkdir(exist_ok=True)
    monkeypatch.setattr(machinelock, "SHARED", folder)
    monkeypatch.setenv("PORTWRIGHT_ARTIFACTS", str(data.parent / "artifacts"))
    engine = PretendEngine()
    monkeypatch.setattr(making, "open_engine", lambda *_: engine)
    monkeypatch.setattr(run, "commit_of", lambda _: "")
    request = Request("cpu", RECIPE, "synthetic:bert-tiny", str(data), "venv", make_only=True)
    return run.run(this_project(), request, Board()), engine


def test_only_what_ships_is_made_and_the_rest_of_the_plan_is_left(data: Path) -> None:
    plan = plan_of("cpu", RECIPE, data)
    made = {call.key for call in plan.make_calls}
    assert made < {call.key for call in plan.calls}
    left = {call.stage for call in plan.calls if call.key not in made}
    assert left == {"embed", "evaluate", "benchmark"}
    assert not {call.kind for call in plan.make_calls} - {"artifact"}


def test_a_recipe_ends_with_what_ships_and_no_view(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary, engine = make(data, monkeypatch)
    assert sorted(engine.ran) == sorted(call.stage for call in plan_of("cpu", RECIPE, data).make_calls)
    [report] = summary.reports
    assert report.made
    assert (report.made.manifest.stage, report.result, report.view) == ("package", None, None)
    assert not (data.parent / "artifacts" / "runs").exists()
    text = faces.run_text(this_project(), summary)
    assert f"{RECIPE}: made, 0.0 MB, not judged: {report.made.files}" in text
    assert "Nothing to do" not in text


def test_the_second_time_there_is_nothing_to_do(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(data, monkeypatch)
    summary, engine = make(data, monkeypatch)
    assert not engine.ran
    assert "Nothing to do" in faces.run_text(this_project(), summary)


def test_the_store_keeps_what_a_stage_took(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary, _ = make(data, monkeypatch)
    [report] = summary.reports
    assert report.made
    kept = Store(data.parent / "artifacts").get(report.made.manifest.key)
    assert kept
    assert kept.manifest.cpu_seconds == 1.0


def test_a_manifest_of_before_the_count_is_still_read(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary, _ = make(data, monkeypatch)
    [report] = summary.reports
    assert report.made
    manifest = report.made.folder / "manifest.json"
    older = report.made.manifest.model_dump(mode="json", exclude={"cpu_seconds"})
    manifest.chmod(0o644)
    manifest.write_text(type(report.made.manifest).model_validate(older).model_dump_json(exclude={"cpu_seconds"}))
    again = Store(data.parent / "artifacts").get(report.made.manifest.key)
    assert again
    assert again.manifest.cpu_seconds is None
