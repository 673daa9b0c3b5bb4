"""docker/base/archives.py: what an archive may write, and where."""

from __future__ import annotations

import io
import stat
import sys
import tarfile
import zipfile
from collections.abc import Callable
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from portwright.project import this_project

Write = Callable[[Path, dict[str, Any]], Path]


def load() -> ModuleType:
    path = this_project().docker / "base" / "archives.py"
    found = util.spec_from_file_location("portwright_archives", path)
    assert found is not None
    assert found.loader is not None
    module = sys.modules[found.name] = util.module_from_spec(found)  # dataclasses look their module up
    found.loader.exec_module(module)
    return module


archives: Any = load()


def link(to: str) -> tuple[str, str]:
    return "link", to


def write_tar(path: Path, members: dict[str, Any]) -> Path:
    """A tar of files (bytes), folders (None), links and other kinds."""
    with tarfile.open(path / "a.tgz", "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.mode = 0o6777 if name.endswith(".so") else 0o600
            if isinstance(content, bytes):
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
                continue
            kind, to = content or ("folder", "")
            info.type = {
                "folder": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "same": tarfile.LNKTYPE, "node": tarfile.CHRTYPE,
            }[kind]  # fmt: skip
            info.linkname = to
            tar.addfile(info)
    return path / "a.tgz"


def write_zip(path: Path, members: dict[str, Any]) -> Path:
    with zipfile.ZipFile(path / "a.zip", "w") as file:
        for name, content in members.items():
            info = zipfile.ZipInfo(name if content is not None else f"{name}/")
            mode = stat.S_IFREG | (0o755 if name.endswith(".so") else 0o600)
            linked = content[1] if isinstance(content, tuple) else None
            info.external_attr = (mode if linked is None else stat.S_IFLNK | 0o777) << 16
            file.writestr(info, content or b"" if linked is None else linked)
    return path / "a.zip"


def unpack(path: Path, folder: Path, inside: str = "") -> None:
    kind = "zip" if path.suffix == ".zip" else "tar"
    archives.unpack(
        path,
        archives.Archive(name="a", kind=kind, file=path.name, sha256="", inside=inside, place="", replaces=[]),
        folder,
    )


BOTH = pytest.mark.parametrize("write", [write_tar, write_zip])


@BOTH
def test_what_is_in_an_archive_is_unpacked(write: Write, tmp_path: Path) -> None:
    members = {
        "sdk": None, "sdk/lib/libx.so.1.so": b"code", "sdk/lib/libx.so": link("libx.so.1.so"),
        "sdk/up": link("lib/../lib/libx.so"), "sdk/empty": None, "README": b"text",
    }  # fmt: skip
    unpack(write(tmp_path, members), tmp_path / "to")
    library = tmp_path / "to/sdk/lib/libx.so.1.so"
    assert library.read_bytes() == b"code"
    assert stat.S_IMODE(library.stat().st_mode) == 0o755  # and nothing that lets it run as someone else
    assert stat.S_IMODE((tmp_path / "to/README").stat().st_mode) == 0o644
    assert (tmp_path / "to/sdk/lib/libx.so").readlink() == Path("libx.so.1.so")
    assert (tmp_path / "to/sdk/up").read_bytes() == b"code"
    assert (tmp_path / "to/sdk/empty").is_dir()


@BOTH
def test_only_what_is_inside_the_folder_that_is_wanted(write: Write, tmp_path: Path) -> None:
    members = {"top/lib/libx.so": b"code", "top/lib/deep/y": b"y", "top/library/z": b"z", "top/lib": b"", "w": b"w"}
    unpack(write(tmp_path, members), tmp_path / "to", inside="top/lib")
    found = sorted(path.relative_to(tmp_path / "to").as_posix() for path in (tmp_path / "to").rglob("*"))
    assert found == ["deep", "deep/y", "libx.so"]
    with pytest.raises(archives.RefusedError, match="holds nothing under other"):
        unpack(write(tmp_path, members), tmp_path / "to", inside="other")


@BOTH
@pytest.mark.parametrize(
    "members",
    [
        {"../evil": b"x"},
        {"a/../../evil": b"x"},
        {"/evil": b"x"},
        {"C:/evil": b"x"},
        {"a\\..\\..\\evil": b"x"},
        {"link": link("../evil")},
        {"link": link("/etc/passwd")},
        {"a/link": link("../../evil")},
        {"link": link("."), "link/evil": b"x"},
        {"deep/link": link("../other"), "other": None, "deep/link/evil": b"x"},
    ],
)
def test_nothing_leads_out(write: Write, tmp_path: Path, members: dict[str, Any]) -> None:
    with pytest.raises(archives.RefusedError):
        unpack(write(tmp_path, members), tmp_path / "in" / "to")
    assert not list(tmp_path.rglob("evil"))


@BOTH
@pytest.mark.parametrize("last_first", [False, True])
def test_no_link_is_left_that_leads_out_through_another(write: Write, tmp_path: Path, *, last_first: bool) -> None:
    links = {"a/b/c": link("../.."), "s2": link("a/b/c/../victim")}
    members = dict(reversed(links.items())) if last_first else links
    with pytest.raises(archives.RefusedError, match="the link 's2' leads out of its folder"):
        unpack(write(tmp_path, members), tmp_path / "in" / "to")
    assert not (tmp_path / "in/to/s2").is_symlink()


def test_a_second_name_is_one_of_a_file_that_came_before(tmp_path: Path) -> None:
    unpack(write_tar(tmp_path, {"s/a": b"x", "s/b": ("same", "s/a")}), tmp_path / "to", inside="s")
    assert (tmp_path / "to/b").read_bytes() == b"x"
    (tmp_path / "outside").write_text("private")
    for name in ("../outside", "outside", "s/later", "/etc/hostname"):
        with pytest.raises(archives.RefusedError):
            unpack(write_tar(tmp_path, {"s/b": ("same", name)}), tmp_path / "to", inside="s")


def test_a_node_is_no_part_of_an_archive(tmp_path: Path) -> None:
    with pytest.raises(archives.RefusedError, match="neither a file"):
        unpack(write_tar(tmp_path, {"zero": ("node", "")}), tmp_path / "to")


@BOTH
def test_a_file_that_is_there_gives_way_and_its_other_name_keeps_its_content(write: Write, tmp_path: Path) -> None:
    cache, folder = tmp_path / "cache", tmp_path / "to"
    folder.mkdir()
    cache.write_text("the package's")
    (folder / "libx.so").hardlink_to(cache)
    unpack(write(tmp_path, {"libx.so": b"the vendor's"}), folder)
    assert (folder / "libx.so").read_text() == "the vendor's"
    assert cache.read_text() == "the package's"


def test_a_link_that_was_there_before_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "to").mkdir()
    (tmp_path / "to/lib").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(archives.RefusedError, match="through a link"):
        unpack(write_tar(tmp_path, {"lib/x": b"x"}), tmp_path / "to")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_changed_file_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    path = write_tar(tmp_path, {"a": b"x"})
    listed = tmp_path / "archives.json"
    listed.write_text(
        '[{"name": "a", "kind": "tar", "file": "a.tgz", "sha256": "' + "0" * 64 + '", "inside": "", "place": "",'
        ' "replaces": ["pytest"]}]'
    )
    with pytest.raises(archives.RefusedError, match=f"{path.name} was changed"):
        archives.main(listed, "uv")
