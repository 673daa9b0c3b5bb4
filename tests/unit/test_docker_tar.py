"""Tar streams to and from an engine: nothing changes on the way, and nothing leads out of its folder."""

from __future__ import annotations

import io
import os
import py_compile
import struct
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


def test_bytecode_serves_where_times_are_kept(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "module.py").write_text("pass\n")
    compiled = py_compile.compile(str(source / "module.py"), doraise=True)
    assert compiled is not None
    with tarfile.open(fileobj=io.BytesIO(b"".join(tar_stream(tree("top", source), times=True)))) as tar:
        sent = tar.getmember("top/module.py")
    assert struct.unpack("<II", Path(compiled).read_bytes()[8:16]) == (sent.mtime, sent.size)


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


LINK_UP = ("top/a/b/c", "../..")
THROUGH = ("top/s2", "a/b/c/../victim")


@pytest.mark.parametrize("links", [[LINK_UP, THROUGH], [THROUGH, LINK_UP]])
def test_a_link_that_leads_out_through_another_is_refused_and_not_left(
    tmp_path: Path, links: list[tuple[str, str]]
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "victim").write_text("the user's")
    with pytest.raises(EngineError, match="the link 's2', which leads out of its folder"):
        extract([members(*links)], target)
    assert not (target / "s2").is_symlink()
    (tmp_path / "again").mkdir()
    with pytest.raises(EngineError, match="the link 's2', which leads out of its folder"):
        extract([members(*links, ("top/s2", None))], tmp_path / "again")
    assert (tmp_path / "victim").read_text() == "the user's"


@pytest.mark.parametrize("second", [None, "b"])
def test_what_is_there_is_never_written_over(tmp_path: Path, second: str | None) -> None:
    with pytest.raises(EngineError, match="the engine sent 'top/a' twice"):
        extract([members(("top/a", second), ("top/a", None))], tmp_path)


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="leads out of its folder"):
        extract([members(("top/a", "b"), ("top/b", "a"))], tmp_path)


def test_what_is_linked_from_elsewhere_is_sent_itself(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "bundle.pem").write_text("authority")
    (tmp_path / "ca.pem").symlink_to("real/bundle.pem")
    (tmp_path / "model").symlink_to("real")
    target = tmp_path / "target"
    target.mkdir()
    members = [("top", tmp_path), *tree("top/ca.pem", tmp_path / "ca.pem"), *tree("top/model", tmp_path / "model")]
    extract(tar_stream(members), target)
    assert content(target) == {"ca.pem": b"authority", "model/bundle.pem": b"authority"}


def test_a_second_name_of_a_file_comes_over(tmp_path: Path) -> None:
    extract([two_names("top/a", "top/a")], tmp_path)
    assert content(tmp_path) == {"a": b"weights", "b": b"weights"}


@pytest.mark.parametrize("target", ["top/gone", "top", "top/../../file"])
def test_a_second_name_of_nothing_is_refused(tmp_path: Path, target: str) -> None:
    with pytest.raises(EngineError, match="the engine sent 'top/b'"):
        extract([two_names("top/a", target)], tmp_path)


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_what_is_neither_file_folder_nor_link_is_refused(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("top/strange")
    info.type = kind
    with pytest.raises(EngineError, match="neither a file, a folder nor a link"):
        extract([info.tobuf(tarfile.GNU_FORMAT), bytes(tarfile.RECORDSIZE)], tmp_path)


def test_a_broken_stream_is_an_engines_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="can't be read"):
        extract([b"no tar at all" * 100], tmp_path)


def two_names(name: str, target: str) -> bytes:
    """A tar of a file `name`, and `top/b` as a hard link to `target`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        first, second = tarfile.TarInfo(name), tarfile.TarInfo("top/b")
        first.size = len(b"weights")
        tar.addfile(first, io.BytesIO(b"weights"))
        second.type, second.linkname = tarfile.LNKTYPE, target
        tar.addfile(second)
    return buffer.getvalue()


def one_member(name: str, link: str | None) -> bytes:
    return members((name, link))


def members(*named: tuple[str, str | None]) -> bytes:
    """A tar of empty files and of links."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, link in named:
            info = tarfile.TarInfo(name)
            if link is not None:
                info.type, info.linkname = tarfile.SYMTYPE, link
            tar.addfile(info, io.BytesIO())
    return buffer.getvalue()
