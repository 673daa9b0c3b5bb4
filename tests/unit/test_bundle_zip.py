"""A bundle's zip: the same bytes for the same content, whole or not there."""

from __future__ import annotations

import os
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from portwright.bundle_zip import Entry, write_zip
from portwright.digests import digest_file
from portwright.errors import StoreError


def entry(path: Path, text: str) -> Entry:
    path.write_text(text)
    return replace(Entry.of(path.read_bytes()), content=b"", path=path)


def test_the_same_content_is_the_same_file(tmp_path: Path) -> None:
    entries = {"b/x": entry(tmp_path / "x", "weights"), "a": Entry.of(b"text")}
    write_zip(tmp_path / "one.zip", entries)
    os.utime(tmp_path / "x", (1, 1))
    (tmp_path / "x").chmod(0o600)
    write_zip(tmp_path / "two.zip", dict(reversed(entries.items())))
    assert digest_file(tmp_path / "one.zip") == digest_file(tmp_path / "two.zip")
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert archive.namelist() == ["a", "b/x"]
        assert archive.read("b/x") == b"weights"
        assert archive.testzip() is None


def test_a_damaged_file_leaves_the_old_bundle(tmp_path: Path) -> None:
    entries = {"x": entry(tmp_path / "x", "weights")}
    write_zip(tmp_path / "out.zip", entries)
    before = digest_file(tmp_path / "out.zip")
    (tmp_path / "x").write_text("weightz")
    with pytest.raises(StoreError, match="changed or damaged"):
        write_zip(tmp_path / "out.zip", entries)
    assert digest_file(tmp_path / "out.zip") == before
    assert {path.name for path in tmp_path.iterdir()} == {"x", "out.zip"}


def test_a_full_or_forbidden_disk_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="can't write to"):
        write_zip(tmp_path / "file" / "out.zip", {"a": Entry.of(b"")})
