"""The artifact store: immutable directories named by key, made visible in one rename.

store/<key[:2]>/<key>/files/…        what the stage wrote
store/<key[:2]>/<key>/manifest.json  every file with size and SHA-256, and how it came about

Equal files of several artifacts are hard links to one (`pool`); a stage's output may also name a file of its inputs
that it passes on, which is then linked and never written.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from portwright.checked import StrictModel
from portwright.digests import digest_file, digest_json
from portwright.disk import WRITABLE, remove_tree, sync_file, sync_folder, sync_tree, write_synced, writing
from portwright.errors import StoreError
from portwright.locks import held, lock_file, taken
from portwright.pool import SHARED_BYTES, Pool

if TYPE_CHECKING:
    from filelock import FileLock

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
    cpu_seconds: float | None = None
    """User and system time; None in what was made before it was counted."""
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


@dataclass(frozen=True)
class Passed:
    """A file of an artifact that another one holds unchanged."""

    artifact: Artifact
    name: str


class Store:
    """Artifacts under one root. Safe for several processes: a key is locked while it is being made."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._store = root / "store"
        self._place = os.fspath(self._store)
        self._tmp = root / "tmp"
        self._locks = root / "locks"
        self.pool = Pool(root)

    def path(self, key: str) -> Path:
        return self._store / key[:2] / key

    def get(self, key: str) -> Artifact | None:
        """The artifact of a key; None where there is none, or a damaged one, which `put` replaces.

        StoreError where it can't be told which.
        """
        # No Path before something is found: a plan of thousands of recipes asks for ten times as many keys.
        folder = f"{self._place}/{key[:2]}/{key}"
        try:
            with open(f"{folder}/{MANIFEST}", "rb") as file:  # noqa: PTH123 - see above
                manifest = Manifest.model_validate_json(file.read())
            if all(_intact(f"{folder}/{FILES}/{name}", entry) for name, entry in manifest.files.items()):
                return Artifact(Path(folder), manifest)
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
            lock = lock_file(folder.with_suffix(".lock"))
            lock.acquire()
            folder.mkdir()
        try:
            yield folder
        finally:
            remove_tree(folder)
            _drop(lock)

    def _sweep(self) -> None:
        # Of a run that was killed in the wrong moment only the lock is left.
        for folder in {path.with_suffix("") for path in self._tmp.iterdir()}:
            lock = lock_file(folder.with_suffix(".lock"))
            if taken(lock):
                remove_tree(folder)
                _drop(lock)

    def put(self, output: Path, manifest: Mapping[str, Any], passed: Mapping[str, Passed] | None = None) -> Artifact:
        """Make `output`, a folder of a workspace, the artifact of `manifest['key']`; its files become read-only.

        `passed` are files by the names they get that come unchanged from other artifacts. StoreError for a link in the
        output, for a name that leads outside or is taken, and for a file passed on that isn't there as it was.
        """
        with writing(self.root):
            for path in output.rglob("*"):
                if path.is_symlink():
                    raise StoreError(
                        f"stage {manifest['stage']} wrote a link, {path.name}", why="artifacts hold files only"
                    )
            entries = {
                path.relative_to(output).as_posix(): self._seal(path)
                for path in sorted(output.rglob("*"))
                if path.is_file()
            }
            entries |= {name: _pass_on(output, name, file) for name, file in (passed or {}).items()}
            for path in (output, *(item for item in output.rglob("*") if item.is_dir())):
                path.chmod(READABLE_FOLDER)  # whatever the umask: a container's user reads them too
            checked = Manifest.model_validate({**manifest, "files": dict(sorted(entries.items()))})
            folder = self.path(checked.key)
            staged = output.with_name(f"{output.name}.artifact")
            staged.mkdir()
            output.rename(staged / FILES)
            write_synced(staged / MANIFEST, checked.model_dump_json(indent=1))
            sync_tree(staged)
            self._show(staged, folder)
            return Artifact(folder, checked)

    def _seal(self, path: Path) -> FileEntry:
        """Digest a file, make it durable and read-only, and one with its equals in the store."""
        path.chmod(WRITABLE)
        digest, size = digest_file(path), path.stat().st_size
        if size >= SHARED_BYTES:
            self.pool.share(path, digest, size)
        else:
            sync_file(path)
        path.chmod(READ_ONLY)
        return FileEntry(sha256=digest, size=size, mtime_ns=path.stat().st_mtime_ns)

    def _show(self, staged: Path, folder: Path) -> None:
        """Rename a whole artifact to its place, in the place of a damaged one if need be."""
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

    def keys(self) -> Iterator[str]:
        """Every key in the store."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self._store) as shards:
            for shard in shards:
                with os.scandir(shard.path) as entries:
                    yield from (entry.name for entry in entries)

    def made_at(self, key: str) -> float:
        """When an artifact was made, seconds since the epoch; 0 where its manifest can't be looked at.

        Asked of every artifact of the store when the old ones are looked for.
        """
        try:
            return os.stat(f"{self._store}/{key[:2]}/{key}/{MANIFEST}").st_mtime  # noqa: PTH116 - a Path takes ten times as long
        except OSError:
            return 0.0

    def sizes(self, key: str) -> tuple[int, list[tuple[str, int]]]:
        """Bytes of an artifact's own files; digest and bytes of each that may be shared, as the manifest has them."""
        try:
            manifest = json.loads((self.path(key) / MANIFEST).read_bytes())
            listed = [(str(entry["sha256"]), int(entry["size"])) for entry in manifest["files"].values()]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return 0, []  # a damaged one: it can still be removed
        shared = [(digest, size) for digest, size in listed if size >= SHARED_BYTES]
        return sum(size for _, size in listed if size < SHARED_BYTES), shared

    def remove(self, key: str) -> None:
        """Take an artifact out, with what only it held; half a removal is never visible.

        The caller holds the host volume for cleaning: the key's lock goes too.
        """
        _, shared = self.sizes(key)
        self._discard(self.path(key))
        (self._locks / f"{key}.lock").unlink(missing_ok=True)
        for digest in {digest for digest, _ in shared}:
            self.pool.release(digest)

    def _discard(self, folder: Path) -> None:
        with writing(self.root):
            self._tmp.mkdir(parents=True, exist_ok=True)
            gone = self._tmp / f"discarded-{uuid.uuid4().hex}"
            with contextlib.suppress(FileNotFoundError):
                folder.rename(gone)
                remove_tree(gone)


def _pass_on(output: Path, name: str, passed: Passed) -> FileEntry:
    """Link a file of another artifact into the output, or copy it where the disk has no links."""
    parts = PurePosixPath(name).parts
    source, entry = passed.artifact.files / passed.name, passed.artifact.manifest.files.get(passed.name)
    if entry is None or not _intact(os.fspath(source), entry):
        raise StoreError(f"{passed.name} of artifact {passed.artifact.manifest.key[:12]} is gone or was changed")
    target = output.joinpath(*parts)
    if not parts or PurePosixPath(name).is_absolute() or ".." in parts or target.exists():
        raise StoreError(f"a stage passes on {passed.name} as {name!r}, which is no new file of its output")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
        sync_file(target)
    return entry.model_copy(update={"mtime_ns": target.stat().st_mtime_ns})


def _intact(path: str, entry: FileEntry) -> bool:
    """Whether a file is what the manifest says; its content is read only if its time stamp changed."""
    stat = os.stat(path)  # noqa: PTH116 - a model is a hundred files, and a no-op asks for each of them
    if stat.st_size != entry.size:
        return False
    return stat.st_mtime_ns == entry.mtime_ns or digest_file(Path(path)) == entry.sha256


def _drop(lock: FileLock) -> None:
    """Release a lock and its file. The name goes first: who waits for it finds that, and makes the file anew."""
    path = Path(lock.lock_file)
    with contextlib.suppress(OSError):  # Windows removes no open file
        path.unlink()
    lock.release()
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            path.unlink()
