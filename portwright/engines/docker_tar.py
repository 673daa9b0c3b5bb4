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


def tar_stream(members: Iterable[tuple[str, Path]], owner: tuple[int, int] = (0, 0)) -> Iterator[bytes]:
    """A GNU tar of (name, file, folder or link) as it is read; everything in it belongs to `owner` and is readable."""
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
            yield info.tobuf(tarfile.GNU_FORMAT)
            with path.open("rb") as file:
                while block := file.read(BLOCK):
                    yield block
            yield b"\0" * (-info.size % tarfile.BLOCKSIZE)
    yield b"\0" * tarfile.RECORDSIZE


def tree(prefix: str, root: Path) -> Iterator[tuple[str, Path]]:
    """Members for a file, or for a folder with all in it, under the name `prefix`."""
    yield prefix, root
    if root.is_dir():
        yield from ((f"{prefix}/{path.relative_to(root).as_posix()}", path) for path in sorted(root.rglob("*")))


def extract(blocks: Iterable[bytes], folder: Path) -> None:
    """Write what the engine sent (one top folder, left out) into `folder`; EngineError for a name that leads outside.

    By hand: tarfile's own filters came with Python 3.11.4, and Debian 12 has 3.11.2.
    """
    with tarfile.open(fileobj=io.BufferedReader(_Blocks(blocks), BLOCK), mode="r|") as tar:
        for member in tar:
            parts = PurePosixPath(member.name).parts[1:]
            if not parts:
                continue
            target = folder.joinpath(*parts)
            inside = ".." not in parts and not any(parent.is_symlink() for parent in _between(folder, target))
            if not inside or (member.issym() and not _stays(member.linkname, len(parts) - 1)):
                raise EngineError(f"the engine sent {member.name!r}, which leads out of its folder")
            target.parent.mkdir(parents=True, exist_ok=True)
            if member.isdir():
                target.mkdir(exist_ok=True)
            elif member.issym():
                target.symlink_to(member.linkname)
            elif member.isfile() and (content := tar.extractfile(member)) is not None:
                with target.open("wb") as file:
                    shutil.copyfileobj(content, file, BLOCK)
                target.chmod(member.mode & 0o777)


def _between(folder: Path, target: Path) -> Iterator[Path]:
    return (parent for parent in target.parents if parent != folder and folder in parent.parents)


def _stays(link: str, depth: int) -> bool:
    """Whether a relative link from `depth` folders down never climbs above the top."""
    if link.startswith("/"):
        return False
    for part in PurePosixPath(link).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return False
    return True


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
