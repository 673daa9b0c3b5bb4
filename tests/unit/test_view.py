"""Views: whole or not there, and what the store holds is not harmed by them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from portwright import cleaning, view
from portwright.digests import DigestMemory
from portwright.project import Project, this_project
from portwright.request import load_catalog
from portwright.results import GateRecord, RunResult
from portwright.sources import parse_model
from portwright.store import Artifact, Store
from portwright.view import Views
from support.sample_results import settings

MODEL = parse_model("synthetic:bert-base", "main", DigestMemory(Path("nowhere")))
LATENCY = {"min": 1.0, "mean": 1.5, "p50": 1.4, "p90": 2.0, "p99": 2.1, "max": 2.2, "std": 0.1}


def result(**changes: Any) -> RunResult:
    value: dict[str, Any] = {
        "recipe": "small",
        "recipe_digest": "0" * 64,
        "target": "cpu",
        "engine": "venv",
        "status": "passed",
        "model": {"source": MODEL.text, "digest": "0" * 64, "synthetic": True},
        "data": {"source": "texts", "calibration_samples": 1, "evaluation_samples": 1, "disjoint": True},
        "executed": {"stage": "fix_shape", "format": "onnx", "deployable": True},
        "executed_on": "cpu",
        "device": "a processor",
        "measured": "2026-01-01T00:00:00+00:00",
        "stages": [],
        "latency_ms": LATENCY,
        "throughput": None,
        "baseline_latency_ms": LATENCY,
        "latency_ratio": 1.0,
        "similarity": {"mean": 1.0, "min": 1.0, "samples": 1},
        "placement": {"runtime": "onnxruntime", "nodes": [{"where": "CPUExecutionProvider", "nodes": 1}]},
        "gates": [],
        "size_bytes": 1,
    }
    return RunResult.model_validate_json(json.dumps(value | changes))


def artifact(root: Path, content: str = "weights", key: str = "a" * 64) -> Artifact:
    store = Store(root)
    with store.workspace() as work:
        output = work / "output"
        (output / "tokenizer").mkdir(parents=True)
        (output / "model.onnx").write_text(content)
        (output / "tokenizer" / "vocab.txt").write_text("a")
        about: dict[str, object] = {
            "key": key, "stage": "package", "engine": "venv", "toolchain": "ort", "components": {}, "facts": {},
            "versions": {}, "seconds": 1.0, "peak_memory_bytes": 1, "created": "now",
        }  # fmt: skip
        return store.put(output, about)


def write(root: Path, content: str = "weights", **changes: Any) -> Path:
    made = artifact(root, content, hashlib.sha256(content.encode()).hexdigest())
    about: dict[str, object] = {"components": {made.manifest.key: {}}}
    return Views(root).write(MODEL, result(**changes), made, [{"candidate_ms": 1.0}], about)


def test_a_view_holds_everything_and_the_manifest_says_so(tmp_path: Path) -> None:
    folder = write(tmp_path)
    assert folder == tmp_path / "runs" / "synthetic-bert-base-seed-0" / "small"
    manifest = json.loads((folder / "manifest.json").read_text())
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(manifest["files"]) == files - {"manifest.json"}
    assert "deploy/tokenizer/vocab.txt" in files
    for name, entry in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == entry["sha256"]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_second_view_takes_the_place_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(view, "_renameat2", lambda *_: False)
    write(tmp_path)
    folder = write(tmp_path, "other")
    assert (folder / "deploy" / "model.onnx").read_text() == "other"
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".small")] == []


def test_a_view_that_can_not_be_finished_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path)

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(view, "_exchange", fail)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, "other")
    assert (folder / "deploy" / "model.onnx").read_text() == "weights"
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".small")] == []


def test_what_ships_says_how_it_was_run(tmp_path: Path) -> None:
    found = {"one_thread": settings("half the threads", threads=2)}
    folder = write(tmp_path, session_settings=found, environment={"cpu_model": "a processor", "governor": "x"})
    notes = json.loads((folder / "deploy" / "session.json").read_text())
    assert notes["settings"]["one_thread"] == {
        "threads": 2,
        "chosen": "half the threads",
        "settings": {"device": "CPU", "INFERENCE_NUM_THREADS": 1},
        "ratio_to_default": 0.8,
    }
    assert (notes["runtime"], notes["measured"]) == ("onnxruntime", "2026-01-01T00:00:00+00:00")
    assert notes["machine"]["cpu_model"] == "a processor"
    assert "deploy/session.json" in json.loads((folder / "manifest.json").read_text())["files"]


def test_a_rejected_deployable_says_so(tmp_path: Path) -> None:
    gate = GateRecord(name="similarity.mean", passed=False, limit=0.99, found=0.5, reason="mean cosine is 0.5")
    untold = GateRecord(name="placement", passed=None, limit=1.0, found=0.0, reason="the CPU stood in")
    folder = write(tmp_path, status="failed", gates=[untold.model_dump(), gate.model_dump()])
    rejected = (folder / "deploy" / "REJECTED.txt").read_text()
    assert rejected == "Don't ship this: a gate failed.\nsimilarity.mean: mean cosine is 0.5\n"
    assert Store(tmp_path).get(hashlib.sha256(b"weights").hexdigest()) is not None
    assert not (write(tmp_path) / "deploy" / "REJECTED.txt").exists()


def test_clean_takes_what_no_result_refers_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTWRIGHT_ARTIFACTS", str(tmp_path))
    project = Project(this_project().root)
    write(tmp_path, "old")
    write(tmp_path, "new")
    old = hashlib.sha256(b"old").hexdigest()
    catalog = load_catalog(project)
    found = cleaning.find(project, catalog, everything=False, older_than_days=0)
    assert [item.key for item in found] == [old]
    assert "Nothing was removed" in cleaning.text(found, project, removed=False)
    assert Store(tmp_path).get(old) is not None
    assert cleaning.find(project, catalog, everything=False, older_than_days=1) == []
    cleaning.remove(found, project)
    assert Store(tmp_path).get(old) is None
    assert Store(tmp_path).get(hashlib.sha256(b"new").hexdigest()) is not None
    assert cleaning.find(project, catalog, everything=False, older_than_days=0) == []
    everything = cleaning.find(project, catalog, everything=True, older_than_days=0)
    cleaning.remove(everything, project)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_already_is_not_written_again(tmp_path: Path) -> None:
    made = artifact(tmp_path)
    first, again = (Views(tmp_path).write(MODEL, result(), made, [], {}).stat().st_ino for _ in range(2))
    assert first == again


@pytest.mark.parametrize("name", ["result.json", "measurements.jsonl", "manifest.json", "deploy/model.onnx"])
def test_what_somebody_changed_in_a_view_is_put_right(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path)
    right = (folder / name).read_bytes()
    (folder / name).unlink()
    (folder / name).write_bytes(right[:-1] + b"?")
    write(tmp_path)
    assert (folder / name).read_bytes() == right


def test_what_somebody_added_to_a_view_goes(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "deploy" / "notes.txt").write_text("mine")
    write(tmp_path)
    assert not (folder / "deploy" / "notes.txt").exists()
