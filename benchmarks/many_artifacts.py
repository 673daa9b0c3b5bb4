"""A store of a hundred thousand artifacts: what a look-up takes in it, and what cleaning takes, beside a small one.

The artifacts are written as the store lays them out, without its locks and its waiting for the disk: making them is not
what is measured. Each holds one small file.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.processes import ROOT
from portwright import cleaning
from portwright.project import ARTIFACTS_VARIABLE, Project
from portwright.request import load_catalog
from portwright.store import FILES, MANIFEST, FileEntry, Manifest, Store

SMALL, LARGE = 1_000, 100_000
FEW, MANY = 1_000, 10_000
MOST_REPEATS = LARGE // (FEW + MANY)
"""Each removes artifacts, and none is made again."""
LOOKED_UP = 500
OLD_DAYS, ASKED_DAYS = 40, 30
SAME = 1.5
"""At most this much of the small store's time for a look-up in the large one: what doesn't grow with the store."""
LINEAR = 1.25
"""At most this much of the time for each artifact when ten times as many are removed."""
MICRO, MILLI = 1e6, 1e3
CONTENT = b"x"


def figures(repeats: int) -> Iterator[Figure]:
    """Look-ups in both stores, then removals from the large one."""
    with tempfile.TemporaryDirectory(prefix="portwright-bench-") as name:
        small, large = (_project(Path(name) / str(size)) for size in (SMALL, LARGE))
        for project, count in ((small, SMALL), (large, LARGE)):
            _fill(project, count)
        for what, keys in (("one that is there", _keys(LOOKED_UP)), ("one that isn't", _keys(LOOKED_UP, "absent"))):
            taken = [[_microseconds(project, keys) for project in (small, large)] for _ in range(repeats + 1)]
            in_small, in_large = zip(*taken[1:], strict=True)  # without the first, whose imports and pages are cold
            yield Figure(
                name=f"look-up of {what} among {LARGE:,} artifacts",
                unit="µs",
                ours=in_large,
                against=in_small,
                beside=f"among {SMALL:,}",
                limit=SAME,
            )
        yield from _removals(large, repeats)


def _removals(project: Project, repeats: int) -> Iterator[Figure]:
    """`clean --older-than`, a run of it removing few artifacts and the next one many."""
    catalog = load_catalog(project)
    start = 0
    taken: dict[int, list[float]] = {FEW: [], MANY: []}
    looked: list[float] = []
    for _ in range(repeats):
        for count in (FEW, MANY):
            _age(project, start, count)
            start += count
            os.sync()  # what ageing them left to write is not what removing them takes
            before = time.perf_counter()
            found = cleaning.find(project, catalog, everything=False, older_than_days=ASKED_DAYS)
            between = time.perf_counter()
            cleaning.remove(found, project)
            looked.append(between - before)
            taken[count].append((time.perf_counter() - between) / count)
            if len(found) != count:
                raise RuntimeError(f"{len(found)} artifacts were old, not {count}")
    yield Figure(name=f"finding what is old among {LARGE:,} artifacts", unit="s", ours=looked)
    yield Figure(
        name=f"removing one of {MANY:,} old artifacts",
        unit="ms",
        ours=[MILLI * seconds for seconds in taken[MANY]],
        against=[MILLI * seconds for seconds in taken[FEW]],
        beside=f"of {FEW:,}",
        limit=LINEAR,
    )


def _project(folder: Path) -> Project:
    """This checkout with another host volume."""
    os.environ[ARTIFACTS_VARIABLE] = str(folder)
    project = Project(ROOT)
    project.artifacts.mkdir()
    return project


def _keys(count: int, kind: str = "artifact") -> list[str]:
    return [hashlib.sha256(f"{kind} {number}".encode()).hexdigest() for number in range(count)]


def _fill(project: Project, count: int) -> None:
    store = Store(project.artifacts)
    digest = hashlib.sha256(CONTENT).hexdigest()
    for key in _keys(count):
        folder = store.path(key)
        (folder / FILES).mkdir(parents=True)
        file = folder / FILES / "model.onnx"
        file.write_bytes(CONTENT)
        entry = FileEntry(sha256=digest, size=len(CONTENT), mtime_ns=file.stat().st_mtime_ns)
        manifest = Manifest(
            key=key,
            stage="export",
            engine="venv",
            toolchain="exporter",
            components={},
            facts={},
            versions={},
            seconds=1.0,
            peak_memory_bytes=1,
            created="2026-01-01T00:00:00+00:00",
            files={file.name: entry},
        )
        (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1))


def _microseconds(project: Project, keys: Sequence[str]) -> float:
    """Of one look-up, every artifact's own."""
    store = Store(project.artifacts)
    started = time.perf_counter()
    for key in keys:
        store.get(key)
    return MICRO * (time.perf_counter() - started) / len(keys)


def _age(project: Project, start: int, count: int) -> None:
    """Make the next artifacts old."""
    store = Store(project.artifacts)
    then = time.time() - OLD_DAYS * cleaning.DAY_S
    for key in _keys(start + count)[start:]:
        os.utime(store.path(key) / MANIFEST, (then, then))
