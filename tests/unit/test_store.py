"""The store: whole artifacts or none, damage found, leftovers swept."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portwright.digests import DigestMemory, digest_file, digest_json
from portwright.disk import storage_error
from portwright.errors import StoreError
from portwright.store import Artifact, Store

KEY = "ab" + "0" * 62


def about(key: str = KEY) -> dict[str, Any]:
    return {
        "key": key,
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


def make(store: Store, content: str = "weights", key: str = KEY) -> Artifact:
    with store.workspace() as work:
        output = work / "output"
        (output / "sub").mkdir(parents=True)
        (output / "model.onnx").write_text(content)
        (output / "sub" / "vocab.txt").write_text("a")
        return store.put(output, about(key))


def test_what_is_put_is_found_again_and_read_only(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = make(store)
    found = store.get(KEY)
    assert found == made
    assert sorted(found.manifest.files) == ["model.onnx", "sub/vocab.txt"]
    assert found.manifest.files["model.onnx"].sha256 == digest_file(found.files / "model.onnx")
    assert (found.files / "model.onnx").stat().st_mode & 0o222 == 0
    assert list(store.keys()) == [KEY]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_key_that_is_not_there(tmp_path: Path) -> None:
    assert Store(tmp_path).get(KEY) is None


@pytest.mark.parametrize("damage", ["truncate", "alter", "delete", "manifest"])
def test_a_damaged_artifact_is_none_and_is_replaced(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path)
    path = make(store).files / "model.onnx"
    path.chmod(0o644)
    match damage:
        case "truncate":
            path.write_text("weig")
        case "alter":
            path.write_text("WEIGHTS")
            os.utime(path, ns=(1, 1))
        case "delete":
            path.unlink()
        case _:
            (store.path(KEY) / "manifest.json").write_text("{")
    assert store.get(KEY) is None
    make(store)
    found = store.get(KEY)
    assert found is not None
    assert (found.files / "model.onnx").read_text() == "weights"


def test_a_touched_file_is_no_damage(tmp_path: Path) -> None:
    store = Store(tmp_path)
    os.utime(make(store).files / "model.onnx", ns=(1, 1))
    assert store.get(KEY) is not None


def test_putting_a_key_again_replaces_it_whole(tmp_path: Path) -> None:
    store = Store(tmp_path)
    make(store)
    make(store, "other")
    found = store.get(KEY)
    assert found is not None
    assert (found.files / "model.onnx").read_text() == "other"


def test_a_killed_runs_workspace_is_swept_and_a_living_ones_is_not(tmp_path: Path) -> None:
    store = Store(tmp_path)
    dead = tmp_path / "tmp" / "dead"
    dead.mkdir(parents=True)
    (tmp_path / "tmp" / "dead.lock").touch()
    (tmp_path / "tmp" / "killed-before-its-folder.lock").touch()
    with store.workspace() as alive, Store(tmp_path).workspace() as second:
        mine = {path.name for folder in (alive, second) for path in (folder, folder.with_suffix(".lock"))}
        assert {path.name for path in (tmp_path / "tmp").iterdir()} == mine
    assert list((tmp_path / "tmp").iterdir()) == []


def test_an_artifact_holds_no_links(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.workspace() as work:
        (work / "output").mkdir()
        (work / "output" / "link").symlink_to("/etc/hostname")
        with pytest.raises(StoreError, match="link"):
            store.put(work / "output", about())


def test_a_full_disk_says_so() -> None:
    error = storage_error(Path("somewhere"), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere/file"))
    assert error.exit_code == 6
    assert "somewhere/file" in str(error)
    assert "No space left" in str(error)
    assert "PORTWRIGHT_ARTIFACTS" in str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), JSON, max_size=6))
def test_a_digest_does_not_depend_on_order(value: dict[str, Any]) -> None:
    backwards = dict(reversed(list(value.items())))
    assert digest_json(value) == digest_json(backwards)


def test_remembered_digests_follow_the_file(tmp_path: Path) -> None:
    path, memory_path = tmp_path / "model", tmp_path / "digests.json"
    path.write_text("one")
    memory = DigestMemory(memory_path)
    first = memory.file(path)
    memory.save()
    again = DigestMemory(memory_path)
    assert again.file(path) == first
    path.write_text("other")
    assert again.file(path) == digest_file(path) != first


@pytest.mark.parametrize("text", ["", "[]", "{", '{"x": 1}'])
def test_a_damaged_memory_is_an_empty_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "digests.json").write_text(text)
    path = tmp_path / "model"
    path.write_text("one")
    assert DigestMemory(tmp_path / "digests.json").file(path) == digest_file(path)
