"""Tar streams to and from an engine: nothing changes on the way, and nothing leads out of its folder."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portwright.engines.docker_tar import extract, tar_stream, tree
from portwright.errors import EngineError


def a_tree(folder: Path) -> Path:
    (folder / "deep" / ("long-name-" * 12)).mkdir(parents=True)
    (folder / "deep" / ("long-name-" * 12) / "weights").write_bytes(b"w" * 3_000_000)
    (folder / "empty").write_bytes(b"")
    (folder / "deep" / "link").symlink_to("../empty")
    (folder / "private").write_text("p")
    (folder / "private").chmod(0o600)
    return folder


def content(folder: Path) -> dict[str, bytes | str]:
    return {
        path.relative_to(folder).as_posix(): os.fspath(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def test_a_tree_goes_there_and_back(tmp_path: Path) -> None:
    source = a_tree(tmp_path / "source")
    target = tmp_path / "target"
    target.mkdir()
    extract(tar_stream(tree("top", source)), target)
    assert content(target) == content(source)


def test_members_are_readable_and_owned_as_asked(tmp_path: Path) -> None:
    stream = io.BytesIO(b"".join(tar_stream(tree("top", a_tree(tmp_path / "source")), (65534, 65533))))
    with tarfile.open(fileobj=stream) as tar:
        members = tar.getmembers()
    assert {(member.uid, member.gid) for member in members} == {(65534, 65533)}
    assert all(member.issym() or member.mode & 0o444 == 0o444 for member in members)
    assert all(member.mtime == 0 for member in members)


@given(st.lists(st.integers(1, 100_000), max_size=30))
def test_blocks_may_be_cut_anywhere(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    folder = tmp_path_factory.mktemp("cut")
    (folder / "source").mkdir()
    (folder / "source" / "file").write_bytes(bytes(range(256)) * 700)
    data = b"".join(tar_stream(tree("top", folder / "source")))
    (folder / "target").mkdir()
    extract(cut(data, sizes), folder / "target")
    assert content(folder / "target") == content(folder / "source")


def cut(data: bytes, sizes: list[int]) -> Iterable[bytes]:
    for size in sizes:
        yield data[:size]
        data = data[size:]
    yield data


@pytest.mark.parametrize(
    ("name", "link"),
    [
        ("top/../../file", None),
        ("top/link", "/etc/passwd"),
        ("top/link", "../../outside"),
        ("top/a/link", "../../outside"),
    ],
)
def test_what_leads_outside_is_refused(tmp_path: Path, name: str, link: str | None) -> None:
    with pytest.raises(EngineError, match="leads out of its folder"):
        extract([one_member(name, link)], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    target = tmp_path / "target"
    target.mkdir()
    (target / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(EngineError, match="leads out of its folder"):
        extract([one_member("top/link/file", None)], target)
    assert list((tmp_path / "outside").iterdir()) == []


def one_member(name: str, link: str | None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(name)
        if link is not None:
            info.type, info.linkname = tarfile.SYMTYPE, link
        tar.addfile(info, io.BytesIO())
    return buffer.getvalue()
