"""Tar streams to and from an engine: made and read block by block, since a model is hundreds of megabytes."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from portwright.errors import EngineError

BLOCK = 1 << 20
EVERYBODY_READS = 0o444


def tar_stream(
    members: Iterable[tuple[str, Path]], owner: tuple[int, int] = (0, 0), *, times: bool = False
) -> Iterator[bytes]:
    """A GNU tar of (name, file, folder or link) as it is read; everything in it belongs to `owner` and is readable.

    Files have no time in it unless `times`: bytecode serves a source of one time alone.
    """
    for name, path in members:
        info = tarfile.TarInfo(name)
        info.uid, info.gid = owner
        if path.is_symlink():
            info.type, info.linkname = tarfile.SYMTYPE, os.fspath(path.readlink())
            yield info.tobuf(tarfile.GNU_FORMAT)
        elif path.is_dir():
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            yield info.tobuf(tarfile.GNU_FORMAT)
        else:
            stat = path.stat()
            info.size, info.mode = stat.st_size, stat.st_mode & 0o777 | EVERYBODY_READS
            info.mtime = int(stat.st_mtime) if times else 0
            yield info.tobuf(tarfile.GNU_FORMAT)
            with path.open("rb") as file:
                while block := file.read(BLOCK):
                    yield block
            yield b"\0" * (-info.size % tarfile.BLOCKSIZE)
    yield b"\0" * tarfile.RECORDSIZE


def tree(prefix: str, root: Path) -> Iterator[tuple[str, Path]]:
    """Members for a file, or for a folder with all in it, under the name `prefix`. A link to it is followed."""
    root = root.resolve()
    yield prefix, root
    if root.is_dir():
        yield from ((f"{prefix}/{path.relative_to(root).as_posix()}", path) for path in sorted(root.rglob("*")))


def extract(blocks: Iterable[bytes], folder: Path) -> None:
    """Write what the engine sent (one top folder, left out) into `folder`.

    EngineError for a name that leads outside or comes twice, for what is neither file, folder nor link, and for a
    broken stream. By hand: tarfile's own filters came with Python 3.11.4, and Debian 12 has 3.11.2.
    """
    links: list[Path] = []
    try:
        with tarfile.open(fileobj=io.BufferedReader(_Blocks(blocks), BLOCK), mode="r|") as tar:
            for member in tar:
                target = _inside(folder, member.name, member)
                if target is not None:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    _write(tar, member, folder, target)
                    links += [target] if member.issym() else []
    except tarfile.TarError as error:
        raise EngineError("the engine sent files that can't be read", why=str(error)) from None
    finally:
        _must_stay(links, folder)


def _inside(folder: Path, name: str, member: tarfile.TarInfo) -> Path | None:
    """Where a name of the stream lies under `folder`; None for the top itself."""
    parts = PurePosixPath(name).parts[1:]
    if not parts:
        return None
    target = folder.joinpath(*parts)
    inside = ".." not in parts and not any(parent.is_symlink() for parent in _between(folder, target))
    if not inside or (member.issym() and _climbs_out(member.linkname, len(parts) - 1)):
        raise EngineError(f"the engine sent {member.name!r}, which leads out of its folder")
    return target


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, target: Path) -> None:
    # A link there would be written through, and an engine has no reason to send anything but a folder twice.
    if target.is_symlink() or (target.exists() and not (member.isdir() and target.is_dir())):
        raise EngineError(f"the engine sent {member.name!r} twice")
    if member.isdir():
        target.mkdir(exist_ok=True)
    elif member.issym():
        target.symlink_to(member.linkname)
    elif member.islnk():
        # The second name of a file that came before.
        source = _inside(folder, member.linkname, member)
        if source is None or source.is_symlink() or not source.is_file():
            raise EngineError(
                f"the engine sent {member.name!r}, a second name of {member.linkname!r}, which is no file"
            )
        target.hardlink_to(source)
    elif member.isfile() and (content := tar.extractfile(member)) is not None:
        with target.open("xb") as file:
            shutil.copyfileobj(content, file, BLOCK)
        target.chmod(member.mode & 0o777)
    else:
        raise EngineError(f"the engine sent {member.name!r}, which is neither a file, a folder nor a link")


def _between(folder: Path, target: Path) -> Iterator[Path]:
    return (parent for parent in target.parents if parent != folder and folder in parent.parents)


def _climbs_out(link: str, depth: int) -> bool:
    """Whether a link from `depth` folders down is absolute or, by its text alone, climbs above the top."""
    if link.startswith("/"):
        return True
    for part in PurePosixPath(link).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return False


def _must_stay(links: Iterable[Path], folder: Path) -> None:
    """Remove links that lead out of the folder, and raise EngineError for the first of them.

    Asked when all is written: a link's text says nothing where its way goes through another link, before it or after.
    """
    top, out = folder.resolve(), []
    for link in links:
        try:
            stays = link.resolve().is_relative_to(top)
        except (OSError, RuntimeError):  # links in a circle
            stays = False
        out += [] if stays else [link]
    for link in out:
        link.unlink()
    if out:
        name = out[0].relative_to(folder).as_posix()
        raise EngineError(f"the engine sent the link {name!r}, which leads out of its folder")


class _Blocks(io.RawIOBase):
    """An iterator of bytes as the file object that tarfile wants."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        super().__init__()
        self._blocks = iter(blocks)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override] # typeshed: WriteableBuffer
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
