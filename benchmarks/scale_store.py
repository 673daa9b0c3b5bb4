"""A store of many artifacts: looking one up, and cleaning by age what is old among them.

Artifacts are one small file each, on the disk as `Store.put` leaves them: the first is put, the others are its copies
under other keys, without waiting for the disk after each. Takes long on a slow disk, and is no part of the suite yet.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.figures import Figure, markdown
from benchmarks.processes import INVOKE, succeeded, timed
from portwright.digests import digest_text
from portwright.project import ARTIFACTS_VARIABLE
from portwright.store import FILES, MANIFEST, Store

SIZES = (10_000, 100_000)
OLD = (1_000, 10_000)
"""Artifacts made longer ago than those that stay."""
LOOKUPS = 2_000
AGE_DAYS = 30
DAY_S = 86_400
CONSTANT = 1.5
"""Most that ten times as many may cost: in a look-up, in a cleaning of as many old ones, and in each deletion."""


def figures() -> Iterator[Figure]:
    """Look-ups at both sizes; then each cleaning, as a whole command, on a store of its own."""
    few, many = SIZES
    with tempfile.TemporaryDirectory(prefix="portwright-bench-") as name:
        roots = {size: Path(name) / str(size) for size in SIZES}
        for size, root in roots.items():
            fill(root, size)
        for what, wanted in (("present", present), ("absent", absent)):
            times = {size: lookups(root, wanted(size)) for size, root in roots.items()}
            yield Figure(
                name=f"look-up of {what} keys, {many:,} artifacts",
                unit="µs",
                ours=times[many],
                against=times[few],
                beside=f"{few:,}",
                limit=CONSTANT,
            )
        few_old, many_old = OLD
        small = clean(roots[few], few, few_old)
        large = clean(roots[many], many, few_old)
        yield Figure(
            name=f"clean --older-than of {few_old:,}, {many:,} artifacts",
            unit="s",
            ours=[large],
            against=[small],
            beside=f"{few:,}",
            limit=CONSTANT,
        )
        each = clean(roots[many], many - few_old, many_old) / many_old
        yield Figure(
            name=f"the same of {many_old:,}, for each",
            unit="ms",
            ours=[each * 1e3],
            against=[large / few_old * 1e3],
            beside=f"of {few_old:,}",
            limit=CONSTANT,
        )


def key_of(number: int) -> str:
    return digest_text(f"artifact {number}")


def fill(root: Path, size: int) -> None:
    """Make a store of `size` artifacts."""
    store = Store(root)
    with store.workspace() as folder:
        (folder / "model.json").write_text("{}\n")
        first = store.put(folder, _about(key_of(0)))
    content = (first.files / "model.json").read_bytes()
    stat = (first.files / "model.json").stat()
    text = (first.folder / MANIFEST).read_text(encoding="utf-8")
    for number in range(1, size):
        key = key_of(number)
        place = store.path(key)
        (place / FILES).mkdir(parents=True)
        file = place / FILES / "model.json"
        file.write_bytes(content)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        (place / MANIFEST).write_text(text.replace(first.manifest.key, key), encoding="utf-8")


def _about(key: str) -> dict[str, object]:
    """A manifest's fields, but for the files."""
    known = {"key": key, "stage": "export", "engine": "venv", "toolchain": "exporter", "components": {}, "facts": {}}
    return known | {"versions": {}, "seconds": 1.0, "peak_memory_bytes": 1, "created": "2026-11-01T00:00:00Z"}


def present(size: int) -> Sequence[str]:
    """Keys all over the store."""
    return [key_of(number) for number in range(0, size, size // LOOKUPS)]


def absent(size: int) -> Sequence[str]:
    return [key_of(size + number) for number in range(LOOKUPS)]


def lookups(root: Path, keys: Sequence[str]) -> list[float]:
    """Microseconds a look-up, in several rounds; the first, which fills the system's cache, is not among them."""
    store, took = Store(root), []
    for _ in range(4):
        started = time.perf_counter()
        found = [store.get(key) for key in keys]
        took.append((time.perf_counter() - started) / len(keys) * 1e6)
    assert all(found) or not any(found)
    return took[1:]


def clean(root: Path, left: int, old: int) -> float:
    """Seconds that `invoke clean --older-than` takes for `old` of `left` artifacts; RuntimeError if others go."""
    store, then = Store(root), time.time() - 2 * AGE_DAYS * DAY_S
    for number in range(left - old, left):
        os.utime(store.path(key_of(number)) / MANIFEST, (then, then))
    command = [*INVOKE, "clean", f"--older-than={AGE_DAYS}", "--yes"]
    cost = succeeded(timed(command, {ARTIFACTS_VARIABLE: str(root)}), "cleaning")
    if f"Removed {old}," not in cost.out:
        raise RuntimeError(f"not the {old} old ones were removed:\n{cost.out[-500:]}")
    return cost.wall_s


if __name__ == "__main__":
    print(markdown(list(figures())))
