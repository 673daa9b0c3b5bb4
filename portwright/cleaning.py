"""`invoke clean`: what nothing refers to any more. Finding and removing are apart, so that a dry run can't remove."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from portwright.disk import make_removable, read_json, storage_error
from portwright.errors import UsageError
from portwright.project import Project
from portwright.store import MANIFEST, Store
from portwright.target import Catalog

DAY_S = 86_400.0
OURS = (
    "store",
    "blobs",
    "runs",
    "measurements",
    "history",
    "report.html",
    "venvs",
    "docker",
    "logs",
    "tmp",
    "digests.json",
    "peaks.json",
    "peaks.lock",
    "views.lock",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Removable:
    """One thing that can go."""

    path: Path
    what: str
    size: int
    """Bytes that become free: what other artifacts or results share is not among them."""
    key: str = ""
    """The artifact's key, if it is one."""


def parse_days(asked: str) -> int:
    """Whole days of `--older-than`; UsageError for anything else."""
    if not (asked.isascii() and asked.isdigit()):
        raise UsageError(
            f"--older-than={asked} is no number of days", hint="a whole number, 0 or more: --older-than=30"
        )
    return int(asked)


def find(project: Project, catalog: Catalog, *, everything: bool, older_than_days: int) -> list[Removable]:
    """Artifacts that no result refers to and environments of toolchains that changed; or the whole host volume."""
    root = project.artifacts
    if everything:
        # By name: the folder may hold things that aren't ours.
        return list(_whole([root / name for name in OURS if (root / name).exists()], "all of"))
    store = Store(root)
    newest = time.time() - older_than_days * DAY_S
    keys = _unreferred(store, _referred(root), newest if older_than_days else None)
    found = [*_artifacts(store, keys), *_orphans(store)]
    current = {f"{item.name}-{item.digest('venv')[:12]}" for item in catalog.toolchains.values()}
    # What an archive's fault has changed is not over: with the right file the environment is current again.
    kept = {item.name for item in catalog.toolchains.values() if item.faults}
    stale = [
        path
        for path in sorted((root / "venvs").glob("*/"))
        if path.name not in current and path.name.rpartition("-")[0] not in kept
    ]
    return [*found, *_whole([path for path in stale if _touched(path) <= newest], "virtual environment")]


def remove(found: list[Removable], project: Project) -> None:
    """Remove what `find` found; an artifact vanishes in one step. The caller holds the host volume for cleaning."""
    store = Store(project.artifacts)
    for item in found:
        if item.key:
            store.remove(item.key)
            continue
        try:
            make_removable(item.path)
            if item.path.is_dir():
                shutil.rmtree(item.path)
            for path in (item.path, item.path.with_suffix(".log"), item.path.with_suffix(".lock")):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(item.path, error) from error


def text(found: list[Removable], project: Project, *, removed: bool) -> str:
    """One line a thing, and the sum."""
    if not found:
        return "Nothing to remove."
    lines = [f"{item.what}: {project.show(item.path)} ({item.size / 1e6:.1f} MB)" for item in found]
    total = sum(item.size for item in found) / 1e6
    end = (
        f"Removed {len(found)}, {total:.1f} MB."
        if removed
        else f"{len(found)}, {total:.1f} MB. Nothing was removed: add --yes."
    )
    return "\n".join([*lines, end])


def _unreferred(store: Store, referred: set[str], newest: float | None) -> list[str]:
    """Keys that no result refers to, made at `newest` (seconds since the epoch) at the latest."""
    keys = (key for key in set(store.keys()) if key not in referred)
    return sorted(key for key in keys if newest is None or store.made_at(key) <= newest)


def _artifacts(store: Store, keys: Sequence[str]) -> Iterator[Removable]:
    """Each artifact with what its removal frees: a shared file is freed with the last artifact that holds it.

    Only manifests are read, each once, and one look is taken at each shared file, however many artifacts hold it.
    """
    sizes = [store.sizes(key) for key in keys]
    going = Counter(digest for _, shared in sizes for digest, _ in shared)
    staying = {digest for digest, number in going.items() if store.pool.links(digest) > number}
    for key, (own, shared) in zip(keys, sizes, strict=True):
        going.subtract(digest for digest, _ in shared)
        last = {digest: size for digest, size in shared if not going[digest] and digest not in staying}
        yield Removable(path=store.path(key), what="artifact", key=key, size=own + sum(last.values()))


def _orphans(store: Store) -> Iterator[Removable]:
    return (Removable(path=path, what="file of no artifact", size=size) for path, size in store.pool.orphans())


def _referred(root: Path) -> set[str]:
    """Keys of every stage of every result."""
    keys: set[str] = set()
    for path in (root / "runs").glob(f"*/*/{MANIFEST}"):
        manifest = read_json(path)
        if isinstance(manifest, dict):
            keys |= set(manifest.get("components", {}))
    return keys


def _whole(paths: Sequence[Path], what: str) -> Iterator[Removable]:
    """Files and folders with all in them; a file of several names is freed with the last of these, if that goes too."""
    names_left: dict[tuple[int, int], int] = {}
    for path in paths:
        size = 0
        for item in [path] if path.is_file() else path.rglob("*"):
            stat = item.lstat()
            if S_ISREG(stat.st_mode):
                file = stat.st_dev, stat.st_ino
                names_left[file] = names_left.get(file, stat.st_nlink) - 1
                size += 0 if names_left[file] else stat.st_size
        yield Removable(path=path, what=what, size=size)


def _touched(path: Path) -> float:
    """When it was made, seconds since the epoch."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
