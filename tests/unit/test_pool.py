"""One file for equal contents: shared, found damaged, given up where the disk can't, and freed with its last user."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from portwright import cleaning
from portwright.errors import StoreError, UsageError
from portwright.pool import SHARED_BYTES, STAMP_NS
from portwright.project import Project, this_project
from portwright.request import load_catalog
from portwright.store import Artifact, Passed, Store

WEIGHTS = b"w" * SHARED_BYTES
OTHER = b"o" * SHARED_BYTES


def key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def about(name: str) -> dict[str, Any]:
    return {
        "key": key(name),
        "stage": "export",
        "engine": "venv",
        "toolchain": "exporter",
        "components": {},
        "facts": {},
        "versions": {},
        "seconds": 1.0,
        "peak_memory_bytes": 1,
        "created": "2026-01-01T00:00:00+00:00",
    }


def make(
    store: Store, name: str, passed: dict[str, Passed] | None = None, /, small: str = "graph", **files: bytes
) -> Artifact:
    with store.workspace() as work:
        output = work / "output"
        output.mkdir()
        (output / "model.onnx").write_text(small)
        for file, content in files.items():
            (output / file).write_bytes(content)
        return store.put(output, about(name), passed)


def blobs(root: Path) -> list[Path]:
    return [path for path in (root / "blobs").rglob("*") if path.is_file()]


def disk_bytes(root: Path) -> int:
    """As `du` counts: each file once, however many names it has."""
    files = {path.stat().st_ino: path.stat().st_size for path in root.rglob("*") if path.is_file()}
    return sum(files.values())


def test_equal_big_files_are_one_and_small_ones_stay_apart(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one, two = make(store, "one", weights=WEIGHTS, more=OTHER), make(store, "two", renamed=WEIGHTS)
    assert (one.files / "weights").samefile(two.files / "renamed")
    assert not (one.files / "model.onnx").samefile(two.files / "model.onnx")
    assert len(blobs(tmp_path)) == 2
    assert disk_bytes(tmp_path) < 2.2 * SHARED_BYTES
    for artifact in (one, two):
        assert store.get(artifact.manifest.key) == artifact
        assert all(path.stat().st_mode & 0o222 == 0 for path in artifact.files.iterdir())


def test_a_damaged_file_is_not_shared_further(tmp_path: Path) -> None:
    """Who writes into one artifact's file writes into every artifact's: all are made again, from what is right."""
    store = Store(tmp_path)
    path = make(store, "one", weights=WEIGHTS).files / "weights"
    make(store, "two", weights=WEIGHTS)
    path.chmod(0o644)
    path.write_bytes(OTHER)
    assert store.get(key("one")) is None
    assert store.get(key("two")) is None
    made = make(store, "one", weights=WEIGHTS)
    assert (made.files / "weights").read_bytes() == WEIGHTS
    assert store.get(key("one")) == made
    assert (make(store, "three", weights=WEIGHTS).files / "weights").samefile(made.files / "weights")
    assert store.get(key("two")) is None


def test_a_file_that_the_disk_damaged_in_silence_is_found_by_the_next_that_is_equal(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one = make(store, "one", weights=WEIGHTS)
    path = one.files / "weights"
    path.chmod(0o644)
    path.write_bytes(OTHER)
    os.utime(path, ns=(STAMP_NS, STAMP_NS))
    assert store.get(key("one")) == one  # size and date are as they were: nothing tells yet
    two = make(store, "two", weights=WEIGHTS)
    assert (two.files / "weights").read_bytes() == WEIGHTS
    assert store.get(key("one")) is None
    assert store.get(key("two")) == two


def test_a_blob_that_was_only_touched_still_serves(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one = make(store, "one", weights=WEIGHTS)
    os.utime(one.files / "weights", ns=(1, 1))
    two = make(store, "two", weights=WEIGHTS)
    assert (one.files / "weights").samefile(two.files / "weights")
    assert (two.files / "weights").stat().st_mtime_ns == STAMP_NS


@pytest.mark.parametrize("reason", [errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP])
def test_without_links_every_artifact_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(reason, os.strerror(reason))

    store = Store(tmp_path)
    one = make(store, "one", weights=WEIGHTS)
    monkeypatch.setattr(os, "link", refuse)
    two = make(store, "two", {"same": Passed(one, "weights")}, weights=WEIGHTS)
    assert [(two.files / name).read_bytes() for name in ("same", "weights")] == [WEIGHTS, WEIGHTS]
    assert not (one.files / "weights").samefile(two.files / "weights")
    assert store.get(key("two")) == two
    assert [path.name for path in two.files.iterdir() if path.name.startswith(".")] == []


def test_a_file_with_no_links_left_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, link = Store(tmp_path), os.link
    make(store, "one", weights=WEIGHTS)
    full = blobs(tmp_path)[0].stat().st_ino

    def limited(source: Path, target: Path) -> None:
        if source.stat().st_ino == full:
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
        link(source, target)

    monkeypatch.setattr(os, "link", limited)
    two, three = make(store, "two", weights=WEIGHTS), make(store, "three", weights=WEIGHTS)
    assert (two.files / "weights").samefile(three.files / "weights")
    assert (two.files / "weights").stat().st_ino != full


def test_many_at_once_put_the_same_file(tmp_path: Path) -> None:
    names = [f"artifact {number}" for number in range(12)]
    start = threading.Barrier(len(names))

    def put(name: str) -> None:
        start.wait()
        make(Store(tmp_path), name, weights=WEIGHTS, more=OTHER)

    threads = [threading.Thread(target=put, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = Store(tmp_path)
    found = [store.get(key(name)) for name in names]
    assert all(artifact is not None and (artifact.files / "weights").read_bytes() == WEIGHTS for artifact in found)
    assert sorted(path.name for path in blobs(tmp_path)) == sorted(
        hashlib.sha256(content).hexdigest() for content in (WEIGHTS, OTHER)
    )


def test_a_file_passed_on_is_linked_with_its_digest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one = make(store, "one", weights=WEIGHTS)
    passed = {"deep/er/weights": Passed(one, "weights"), "graph": Passed(one, "model.onnx")}
    two = make(store, "two", passed)
    assert (two.files / "deep" / "er" / "weights").samefile(one.files / "weights")
    assert two.manifest.files["deep/er/weights"].sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert store.get(key("two")) == two


@pytest.mark.parametrize("name", ["../out", "/etc/out", "model.onnx", "a/../../out", ""])
def test_a_file_is_passed_on_to_no_other_place(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path)
    one = make(store, "one", weights=WEIGHTS)
    with pytest.raises(StoreError, match="passes on"):
        make(store, "two", {name: Passed(one, "weights")})
    assert store.get(key("two")) is None


@pytest.mark.parametrize("damage", ["alter", "unknown"])
def test_what_is_not_as_it_was_is_not_passed_on(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path)
    one = make(store, "one", weights=WEIGHTS)
    if damage == "alter":
        (one.files / "weights").chmod(0o644)
        (one.files / "weights").write_bytes(OTHER)
    with pytest.raises(StoreError, match="is gone or was changed"):
        make(store, "two", {"same": Passed(one, "weights" if damage == "alter" else "manifest.json")})


def test_a_file_is_freed_with_the_last_artifact_that_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTWRIGHT_ARTIFACTS", str(tmp_path))
    project = Project(this_project().root)
    catalog = load_catalog(project)
    store = Store(tmp_path)
    make(store, "kept", weights=WEIGHTS)
    make(store, "one", weights=WEIGHTS, more=OTHER)
    make(store, "two", more=OTHER)
    (tmp_path / "runs" / "model" / "recipe").mkdir(parents=True)
    referred: dict[str, Any] = {"components": {key("kept"): {}}}
    (tmp_path / "runs" / "model" / "recipe" / "manifest.json").write_text(json.dumps(referred))
    before = disk_bytes(tmp_path / "blobs")
    found = cleaning.find(project, catalog, everything=False, older_than_days=0)
    assert {item.key for item in found} == {key("one"), key("two")}
    # The weights stay, since a result's artifact holds them; what the two share is counted once.
    assert sum(item.size for item in found) == SHARED_BYTES + 2 * len("graph")
    cleaning.remove(found, project)
    assert before - disk_bytes(tmp_path / "blobs") == SHARED_BYTES
    assert store.get(key("kept")) is not None
    assert cleaning.find(project, catalog, everything=False, older_than_days=0) == []


def test_what_an_artifact_holds_twice_is_freed_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTWRIGHT_ARTIFACTS", str(tmp_path))
    make(Store(tmp_path), "one", weights=WEIGHTS, again=WEIGHTS)
    project = Project(this_project().root)
    [found] = cleaning.find(project, load_catalog(project), everything=False, older_than_days=0)
    assert found.size == SHARED_BYTES + len("graph")


def test_all_of_a_volume_is_no_more_than_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of several names is counted once, and not at all where one of its names stays."""
    root = tmp_path / "artifacts"
    monkeypatch.setenv("PORTWRIGHT_ARTIFACTS", str(root))
    project = Project(this_project().root)
    catalog = load_catalog(project)
    store = Store(root)
    one = make(store, "one", weights=WEIGHTS, more=OTHER)
    make(store, "two", weights=WEIGHTS)
    (root / "runs").mkdir()
    os.link(one.files / "weights", root / "runs" / "weights")
    os.link(one.files / "more", tmp_path / "mine")
    found = cleaning.find(project, catalog, everything=True, older_than_days=0)
    kept = {root / name for name in ("store", "blobs", "runs")}
    small = sum(
        path.stat().st_size for path in (root / "store").rglob("*") if path.is_file() and path.stat().st_nlink == 1
    )
    assert sum(item.size for item in found if item.path in kept) == SHARED_BYTES + small
    cleaning.remove(found, project)
    assert (tmp_path / "mine").read_bytes() == OTHER


def test_clean_finds_what_a_killed_run_left_in_the_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTWRIGHT_ARTIFACTS", str(tmp_path))
    project = Project(this_project().root)
    store = Store(tmp_path)
    left = tmp_path / "left"
    left.write_bytes(WEIGHTS)
    store.pool.share(left, hashlib.sha256(WEIGHTS).hexdigest(), len(WEIGHTS))
    left.unlink()
    [found] = cleaning.find(project, load_catalog(project), everything=False, older_than_days=0)
    assert (found.what, found.size) == ("file of no artifact", SHARED_BYTES)
    cleaning.remove([found], project)
    assert blobs(tmp_path) == []


def test_cleaning_reads_manifests_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of many artifacts is cleaned in a time that its size in bytes doesn't matter for."""
    monkeypatch.setenv("PORTWRIGHT_ARTIFACTS", str(tmp_path))
    project = Project(this_project().root)
    catalog = load_catalog(project)
    store = Store(tmp_path)
    for number in range(20):
        make(store, str(number), weights=WEIGHTS, more=OTHER, small=str(number))
    looked: list[str] = []
    stat = os.stat

    def watched(path: str | Path, **more: Any) -> os.stat_result:
        looked.append(Path(path).name)
        return stat(path, **more)

    monkeypatch.setattr(os, "stat", watched)  # which Path.stat asks, too
    assert len(cleaning.find(project, catalog, everything=False, older_than_days=0)) == 20
    assert "weights" not in looked
    assert "model.onnx" not in looked
    # One look a shared file for its users, and one for whether it has any.
    assert sum(len(name) == 64 for name in looked) == 4


def test_days_are_whole_and_not_below_zero() -> None:
    assert cleaning.parse_days("0") == 0
    assert cleaning.parse_days("30") == 30
    for wrong in ("-1", "abc", "", "1.5"):
        with pytest.raises(UsageError, match=f"--older-than={wrong} is no number of days"):
            cleaning.parse_days(wrong)
