"""The border to a stage's process: its events, its outcome, and what its end means without one."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from portwright.engines.base import Event, Job
from portwright.engines.call import CallPaths, merge_hub_cache, parse_event, read_outcome, write_call
from portwright.errors import DataError, ModelError, PortwrightError, StageFailedError, StoreError


def unsaid(event: Event) -> None:
    pytest.fail(f"nothing was to be said: {event.text}")


def job(tmp_path: Path) -> Job:
    return Job(
        stage="export",
        params={"opset": 17},
        inputs={},
        output=tmp_path,
        log=tmp_path / "export.log",
        label="cpu/export",
    )


def test_a_call_says_everything_a_stage_needs(tmp_path: Path) -> None:
    paths = CallPaths(inputs={"model": "/in/model"}, output="/out", scratch="/scratch", result="/call/result.json")
    call = json.loads(write_call(job(tmp_path), tmp_path, paths).read_text())
    assert call["params"] == {"opset": 17}
    assert call["inputs"] == {"model": "/in/model"}
    assert call["network"] is False


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ('{"event": "progress", "done": 0.5, "text": "x"}', Event(kind="progress", done=0.5, text="x")),
        ('{"event": "log", "text": "x"}', Event(kind="log", text="x")),
        ('{"event": "progress", "done": "half"}', None),
        ("a library's own words", None),
        ("[1]", None),
        ("", None),
    ],
)
def test_events(line: str, event: Event | None) -> None:
    assert parse_event(line) == event


def test_an_outcome(tmp_path: Path) -> None:
    took = {"seconds": 1.5, "cpu_seconds": 2.5, "peak_memory_bytes": 10}
    report = {"ok": True, **took, "facts": {"a": 1}, "versions": {"onnx": "1"}}
    (tmp_path / "result.json").write_text(json.dumps(report))
    outcome = read_outcome(job(tmp_path), tmp_path, 0)
    assert (outcome.seconds, outcome.cpu_seconds, outcome.peak_memory_bytes) == (1.5, 2.5, 10)
    assert (outcome.facts, outcome.versions) == ({"a": 1}, {"onnx": "1"})


@pytest.mark.parametrize(
    ("kind", "error"),
    [("stage", StageFailedError), ("model", ModelError), ("data", DataError), ("?", StageFailedError)],
)
def test_a_stage_that_says_what_is_wrong(tmp_path: Path, kind: str, error: type[PortwrightError]) -> None:
    report = {
        "ok": False,
        "seconds": 1.0,
        "cpu_seconds": 1.0,
        "peak_memory_bytes": 10,
        "kind": kind,
        "message": "it is wet",
        "hint": "dry it",
    }
    (tmp_path / "result.json").write_text(json.dumps(report))
    with pytest.raises(error) as caught:
        read_outcome(job(tmp_path), tmp_path, 1)
    assert "cpu/export: it is wet" in str(caught.value)
    assert "dry it" in str(caught.value)


@pytest.mark.parametrize(
    ("code", "log", "words"),
    [
        (124, "", "still running after 7200 s"),
        (137, "", "memory"),
        (-9, "", "memory"),
        (-11, "", "signal 11"),
        (1, "ImportError: no such thing", "no such thing"),
    ],
)
def test_a_stage_that_died(tmp_path: Path, code: int, log: str, words: str) -> None:
    (tmp_path / "export.log").write_text(log)
    with pytest.raises(StageFailedError) as caught:
        read_outcome(job(tmp_path), tmp_path, code)
    assert words in str(caught.value)
    assert "export.log" in str(caught.value)


@pytest.mark.parametrize(("code", "log"), [(28, ""), (1, "OSError: [Errno 28] No space left on device")])
def test_a_stage_that_had_no_room(tmp_path: Path, code: int, log: str) -> None:
    (tmp_path / "export.log").write_text(log)
    with pytest.raises(StoreError, match="no space is left"):
        read_outcome(job(tmp_path), tmp_path, code)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"ok": true}'])
def test_a_report_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(StageFailedError):
        read_outcome(job(tmp_path), tmp_path, 0)


def tree(folder: Path) -> dict[str, Any]:
    return {
        path.relative_to(folder).as_posix(): str(path.readlink()) if path.is_symlink() else path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def test_what_a_fetch_brought_is_kept_for_other_programs(tmp_path: Path) -> None:
    fresh, cache = tmp_path / "fresh", tmp_path / "cache"
    snapshot = fresh / "hub" / "models--a--b" / "snapshots" / "c0"
    snapshot.mkdir(parents=True)
    (fresh / "hub" / "models--a--b" / "blobs").mkdir()
    (fresh / "hub" / "models--a--b" / "refs").mkdir()
    (fresh / "hub" / "models--a--b" / "blobs" / "e1").write_text("weights")
    (fresh / "hub" / "models--a--b" / "refs" / "main").write_text("c0")
    (fresh / "hub" / "models--a--b" / "refs" / "pr").mkdir()
    (fresh / "hub" / "models--a--b" / "refs" / "pr" / "1").write_text("p0")
    (snapshot / "model.safetensors").symlink_to("../../blobs/e1")
    merge_hub_cache(fresh, cache, unsaid)
    assert tree(cache) == tree(fresh)
    assert (cache / "hub" / "models--a--b" / "snapshots" / "c0" / "model.safetensors").read_text() == "weights"
    (fresh / "hub" / "models--a--b" / "blobs" / "e1").write_text("other")
    (fresh / "hub" / "models--a--b" / "refs" / "main").write_text("c1")
    (fresh / "hub" / "models--a--b" / "refs" / "pr" / "1").write_text("p1")
    merge_hub_cache(fresh, cache, unsaid)
    assert (cache / "hub" / "models--a--b" / "blobs" / "e1").read_text() == "weights"
    assert (cache / "hub" / "models--a--b" / "refs" / "main").read_text() == "c1"
    assert (cache / "hub" / "models--a--b" / "refs" / "pr" / "1").read_text() == "p1"
    assert tree(cache).keys() == tree(fresh).keys()


def test_a_file_that_is_no_reference_is_kept_whatever_its_folder_is_called(tmp_path: Path) -> None:
    fresh, cache = tmp_path / "fresh", tmp_path / "cache"
    place = Path("hub", "models--a--b", "snapshots", "c0", "refs", "main")
    for top, text in ((fresh, "new"), (cache, "old")):
        (top / place).parent.mkdir(parents=True)
        (top / place).write_text(text)
    merge_hub_cache(fresh, cache, unsaid)
    assert (cache / place).read_text() == "old"


def test_a_cache_that_cannot_be_written_is_said_and_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh, cache = tmp_path / "fresh", tmp_path / "cache"
    (fresh / "hub").mkdir(parents=True)
    (fresh / "hub" / "file").write_text("x")
    (cache / "hub").mkdir(parents=True)

    def refuse(_: Path, target: Path) -> None:
        target.touch()
        raise OSError(errno.EROFS, "Read-only file system", str(target))

    monkeypatch.setattr(shutil, "copyfile", refuse)
    said: list[Event] = []
    merge_hub_cache(fresh, cache, said.append)
    assert len(said) == 1
    assert str(cache) in said[0].text
    assert "Read-only file system" in said[0].text
    assert tree(cache) == {}


def test_a_link_that_another_program_made_at_the_same_moment_is_fine(tmp_path: Path) -> None:
    fresh, cache = tmp_path / "fresh", tmp_path / "cache"
    for top in (fresh, cache):
        top.mkdir()
        (top / "a").symlink_to("b")
    (fresh / "file").write_text("x")
    merge_hub_cache(fresh, cache, unsaid)
    assert tree(cache) == {"a": "b", "file": "x"}
