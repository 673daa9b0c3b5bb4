"""Builds vendor archives into an environment: `python archives.py MANIFEST UV`, by the environment's own interpreter.

Both engines run it, and it reaches no network. MANIFEST is a JSON list; each archive has `name`, `kind` (wheel, tar or
zip), `file` (beside the manifest, or a full path), `sha256`, `inside`, `place` and `replaces`. Wheels are installed
after what they replace is gone; the rest is unpacked into `vendor/<name>` of the environment, or into `place` among its
packages. The standard library only: it must run in every environment.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

BLOCK = 1 << 20


class RefusedError(Exception):
    """An archive that can't be what the target says, or that would write where it must not."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """One entry of the manifest."""

    name: str
    kind: str
    file: str
    sha256: str
    inside: str
    place: str
    replaces: list[str]


@dataclass(frozen=True, kw_only=True)
class Member:
    """A part of an archive: a folder, a link (to a path beside it), a second name of a file, or a file's content."""

    name: str
    folder: bool = False
    link: str | None = None
    same_as: str | None = None
    executable: bool = False
    content: IO[bytes] | None = None


def main(manifest: Path, uv: str) -> None:
    archives = [Archive(**entry) for entry in json.loads(manifest.read_text())]
    files = {archive.name: manifest.parent / archive.file for archive in archives}
    for archive in archives:
        check(files[archive.name], archive)
    command = [uv, "--no-config", "--no-progress", "--offline", "pip"]
    if replaced := sorted({name for archive in archives for name in archive.replaces}):
        subprocess.run([*command, "uninstall", "--python", sys.executable, *replaced], check=True)
    if wheels := {files[archive.name]: archive.sha256 for archive in archives if archive.kind == "wheel"}:
        # By name and digest, as from an index: of a file that it is given, uv notes the place.
        install = [*command, "install", "--python", sys.executable, "--no-deps", "--no-index", "--require-hashes"]
        folders = sorted({str(path.parent) for path in wheels})
        options = [part for folder in folders for part in ("--find-links", folder)]
        wanted = "".join(f"{pin(path.name)} --hash=sha256:{digest}\n" for path, digest in wheels.items())
        subprocess.run([*install, *options, "--requirements", "-"], input=wanted, text=True, check=True)
    for archive in archives:
        if archive.kind != "wheel":
            print(f"unpacking {archive.file}", flush=True)
            unpack(files[archive.name], archive, top(archive))


def pin(wheel: str) -> str:
    """`name==version` of a wheel's file name."""
    name, _, rest = wheel.partition("-")
    return f"{name}=={rest.partition('-')[0]}"


def top(archive: Archive) -> Path:
    """The folder that an archive is unpacked into."""
    if archive.place:
        return Path(sysconfig.get_paths()["purelib"]) / archive.place
    return Path(sys.prefix) / "vendor" / archive.name


def check(path: Path, archive: Archive) -> None:
    """The file that was asked for may have been changed since."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    if digest.hexdigest() != archive.sha256:
        raise RefusedError(f"{path.name} was changed: its SHA-256 is {digest.hexdigest()}, not {archive.sha256}")


def unpack(path: Path, archive: Archive, folder: Path) -> None:
    """Write what lies under `inside` into `folder`; refuses what would lead out of it."""
    inside = PurePosixPath(archive.inside).parts
    folder.mkdir(parents=True, exist_ok=True)
    empty = True
    links: list[Path] = []
    try:
        with (tar_members if archive.kind == "tar" else zip_members)(path) as members:
            for member in members:
                parts = split(member.name)
                if parts[: len(inside)] != inside or len(parts) == len(inside):
                    continue
                write(member, folder, parts[len(inside) :], inside)
                links += [folder.joinpath(*parts[len(inside) :])] if member.link is not None else []
                empty = False
    finally:
        must_stay(links, folder)
    if empty:
        raise RefusedError(f"{path.name} holds nothing{f' under {archive.inside}' if inside else ''}")


def split(name: str) -> tuple[str, ...]:
    """A member's path in parts; refuses one that is absolute or climbs."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name.partition("/")[0]:
        raise RefusedError(f"{name!r} leads out of its folder")
    return path.parts


def write(member: Member, folder: Path, parts: tuple[str, ...], inside: tuple[str, ...]) -> None:
    target = folder.joinpath(*parts)
    if any(folder.joinpath(*parts[:depth]).is_symlink() for depth in range(1, len(parts))):
        raise RefusedError(f"{member.name!r} leads through a link")
    if member.folder:
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    # Never written in place: a file that is there may be the package cache's own, by another name.
    target.unlink(missing_ok=True)
    if member.link is not None:
        if climbs_out(member.link, len(parts) - 1):
            raise RefusedError(f"{member.name!r} links to {member.link!r}, out of its folder")
        target.symlink_to(member.link)
    elif member.same_as is not None:
        source = split(member.same_as)
        first = folder.joinpath(*source[len(inside) :])
        if source[: len(inside)] != inside or first.is_symlink() or not first.is_file():
            raise RefusedError(f"{member.name!r} is a second name of {member.same_as!r}, which is no file before it")
        target.hardlink_to(first)
    else:
        assert member.content is not None
        with target.open("xb") as file:
            shutil.copyfileobj(member.content, file, BLOCK)
        target.chmod(0o755 if member.executable else 0o644)


def climbs_out(link: str, depth: int) -> bool:
    """Whether a link from `depth` folders down is absolute or, by its text alone, climbs above the top."""
    path = PurePosixPath(link.replace("\\", "/"))
    for part in path.parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return path.is_absolute()


def must_stay(links: list[Path], folder: Path) -> None:
    """Remove links that lead out of the folder, and refuse the archive for them.

    Asked when all is written: a link's text says nothing where its way goes through another link, before it or after.
    """
    top, out = folder.resolve(), []
    for link in links:
        try:
            inside = link.resolve().is_relative_to(top)
        except (OSError, RuntimeError):  # links in a circle
            inside = False
        if link.is_symlink() and not inside:
            out.append(link)
    for link in out:
        link.unlink()
    if out:
        raise RefusedError(f"the link {out[0].relative_to(folder).as_posix()!r} leads out of its folder")


@contextmanager
def tar_members(path: Path) -> Iterator[Iterator[Member]]:
    def members() -> Iterator[Member]:
        for info in tar:
            if info.issym():
                yield Member(name=info.name, link=info.linkname)
            elif info.islnk():
                yield Member(name=info.name, same_as=info.linkname)
            elif info.isdir():
                yield Member(name=info.name, folder=True)
            elif info.isfile():
                yield Member(name=info.name, executable=bool(info.mode & 0o111), content=tar.extractfile(info))
            else:
                raise RefusedError(f"{info.name!r} is neither a file, a folder nor a link")

    with tarfile.open(path) as tar:
        yield members()


@contextmanager
def zip_members(path: Path) -> Iterator[Iterator[Member]]:
    def members() -> Iterator[Member]:
        for info in archive.infolist():
            mode = info.external_attr >> 16
            if info.is_dir():
                yield Member(name=info.filename, folder=True)
            elif stat.S_ISLNK(mode):
                yield Member(name=info.filename, link=archive.read(info).decode())
            else:
                with archive.open(info) as content:
                    yield Member(name=info.filename, executable=bool(mode & 0o111), content=content)

    with zipfile.ZipFile(path) as archive:
        yield members()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2])
    except (RefusedError, OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        sys.exit(f"vendor archive: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
