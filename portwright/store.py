"""The artifact store: immutable directories named by key, made visible in one rename.

store/<key[:2]>/<key>/files/…        what the stage wrote
store/<key[:2]>/<key>/manifest.json  every file with size and SHA-256, and how it came about
"""

from __future__ import annotations

import contextlib
import errno
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ValidationError

from portwright.checked import StrictModel
from portwright.digests import digest_file, digest_json
from portwright.disk import WRITABLE, remove_tree, sync_file, sync_folder, sync_tree, write_synced, writing
from portwright.errors import StoreError
from portwright.locks import held

MANIFEST = "manifest.json"
FILES = "files"
READ_ONLY = 0o444
READABLE_FOLDER = 0o755


class FileEntry(StrictModel):
    """One file of an artifact. `mtime_ns` tells a touched file apart without reading it."""

    sha256: str
    size: int
    mtime_ns: int


class Manifest(StrictModel):
    """How an artifact came about and what it holds."""

    key: str
    stage: str
    engine: str
    toolchain: str
    components: dict[str, Any]
    facts: dict[str, Any]
    versions: dict[str, str]
    seconds: float
    peak_memory_bytes: int
    created: str
    files: dict[str, FileEntry]

    @property
    def content_digest(self) -> str:
        """Digest of names and contents, whatever the key."""
        return digest_json({name: entry.sha256 for name, entry in self.files.items()})


@dataclass(frozen=True)
class Artifact:
    """A directory of the store with its manifest."""

    folder: Path
    manifest: Manifest

    @property
    def files(self) -> Path:
        return self.folder / FILES


class Store:
    """Artifacts under one root. Safe for several processes: a key is locked while it is being made."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._store = root / "store"
        self._tmp = root / "tmp"
        self._locks = root / "locks"

    def path(self, key: str) -> Path:
        return self._store / key[:2] / key

    def get(self, key: str) -> Artifact | None:
        """The artifact of a key; None where there is none, or a damaged one, which `put` replaces.

        StoreError where it can't be told which.
        """
        folder = self.path(key)
        try:
            manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
            if all(_intact(folder / FILES / name, entry) for name, entry in manifest.files.items()):
                return Artifact(folder, manifest)
        except (FileNotFoundError, ValidationError):
            return None
        except OSError as error:
            raise StoreError(f"can't read artifact {folder}", why=error.strerror or str(error)) from error
        return None

    @contextlib.contextmanager
    def locked(self, key: str, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold a key while it is made, so that two runs don't make it twice; `waiting`: see `held`."""
        with writing(self.root):
            self._locks.mkdir(parents=True, exist_ok=True)
        with held(self._locks / f"{key}.lock", waiting):
            yield

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Path]:
        """A new folder on the store's file system, removed at the end; leftovers of killed runs are swept first."""
        with writing(self.root):
            self._tmp.mkdir(parents=True, exist_ok=True)
            self._sweep()
            folder = self._tmp / uuid.uuid4().hex
            lock = FileLock(folder.with_suffix(".lock"))
            lock.acquire()
            folder.mkdir()
        try:
            yield folder
        finally:
            remove_tree(folder)
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)

    def _sweep(self) -> None:
        for path in self._tmp.iterdir():
            if path.suffix == ".lock":
                continue
            lock = FileLock(path.with_suffix(".lock"))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            remove_tree(path)
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)

    def put(self, output: Path, manifest: Mapping[str, Any]) -> Artifact:
        """Make `output`, a folder of a workspace, the artifact of `manifest['key']`; its files become read-only."""
        with writing(self.root):
            for path in output.rglob("*"):
                if path.is_symlink():
                    raise StoreError(
                        f"stage {manifest['stage']} wrote a link, {path.name}", why="artifacts hold files only"
                    )
            entries = {
                path.relative_to(output).as_posix(): _seal(path) for path in sorted(output.rglob("*")) if path.is_file()
            }
            for path in (output, *(item for item in output.rglob("*") if item.is_dir())):
                path.chmod(READABLE_FOLDER)  # whatever the umask: a container's user reads them too
            checked = Manifest.model_validate({**manifest, "files": entries})
            folder = self.path(checked.key)
            staged = output.with_name(f"{output.name}.artifact")
            staged.mkdir()
            output.rename(staged / FILES)
            write_synced(staged / MANIFEST, checked.model_dump_json(indent=1))
            sync_tree(staged)
            folder.parent.mkdir(parents=True, exist_ok=True)
            sync_folder(folder.parent.parent)
            try:
                staged.rename(folder)
            except OSError as error:
                if error.errno not in {errno.EEXIST, errno.ENOTEMPTY}:
                    raise
                self._discard(folder)
                staged.rename(folder)
            sync_folder(folder.parent)
            return Artifact(folder, checked)

    def keys(self) -> Iterator[str]:
        """Every key in the store."""
        for folder in self._store.glob("??/*"):
            yield folder.name

    def remove(self, key: str) -> None:
        """Take an artifact out; half a removal is never visible."""
        self._discard(self.path(key))

    def _discard(self, folder: Path) -> None:
        with writing(self.root):
            self._tmp.mkdir(parents=True, exist_ok=True)
            gone = self._tmp / f"discarded-{uuid.uuid4().hex}"
            with contextlib.suppress(FileNotFoundError):
                folder.rename(gone)
                remove_tree(gone)


def _seal(path: Path) -> FileEntry:
    """Digest a file, make it read-only and durable."""
    path.chmod(WRITABLE)
    sync_file(path)
    path.chmod(READ_ONLY)
    digest = digest_file(path)
    stat = path.stat()
    return FileEntry(sha256=digest, size=stat.st_size, mtime_ns=stat.st_mtime_ns)


def _intact(path: Path, entry: FileEntry) -> bool:
    """Whether a file is what the manifest says; its content is read only if its time stamp changed."""
    stat = path.stat()
    if stat.st_size != entry.size:
        return False
    return stat.st_mtime_ns == entry.mtime_ns or digest_file(path) == entry.sha256
