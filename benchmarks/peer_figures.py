"""What `benchmarks.peer` says of the matrices it made: a row a recipe, sums, memory, disk and similarity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.figures import Figure
from benchmarks.peer_recipes import PUBLISHED
from benchmarks.peer_sides import COMPILERS, Disk, Taken

PEER = "Olive"
CPU_RATIO = 0.5
STAGE_MB = 2600.0
STORE_MB = 1400.0
MB = 1e6
PER_MILLE = 1000
Side = Mapping[str, Taken]
"""What one side took, by recipe."""


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """One repeat: every recipe by both sides, and what lies on the disk afterwards."""

    ours: Side
    peers: Side
    """Without a recipe that no environment of the peer's serves."""
    disk: Disk
    cache_bytes: int = 0
    alike: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    """Mean and least cosine with fp32, by recipe and then `ours` or `peer`, of the models that run here."""


def figures(matrices: Sequence[Matrix]) -> Iterator[Figure]:
    """Of all repeats. Sums are over the recipes that the peer made a model of, or over all where it made none."""
    names = [published.name for published in PUBLISHED]
    made = [name for name in names if all(_made(one, name) for one in matrices)]
    for name in names:
        note = _why_alone(matrices, name)
        for what, unit, of in (("CPU", "s", _cpu), ("wall", "s", _wall), ("peak", "MB", _peak)):
            yield _figure(f"{name}, {what}", unit, of, matrices, [name], note=note, alone=name not in made)
    yield from _sums(matrices, made or names, alone=not made)
    yield from _memory_and_disk(matrices)
    yield from _similarity(matrices[-1])


def stage_seconds(matrices: Sequence[Matrix]) -> dict[str, float]:
    """CPU seconds of the last repeat by stage, over all our recipes, the costliest first."""
    found: dict[str, float] = {}
    for taken in matrices[-1].ours.values():
        for stage, seconds in taken.stages.items():
            found[stage] = found.get(stage, 0.0) + seconds
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _sums(matrices: Sequence[Matrix], names: Sequence[str], *, alone: bool) -> Iterator[Figure]:
    what, limit = f"{len(names)} recipes", None if alone else CPU_RATIO
    apart = f"{what}, CPU, like for like: without {' and '.join(COMPILERS)}"
    yield _figure(f"{what}, CPU", "s", _cpu, matrices, names, alone=alone, limit=limit)
    yield _figure(apart, "s", _cpu_like_for_like, matrices, names, alone=alone, limit=limit)
    yield _figure(f"{what}, wall", "s", _wall, matrices, names, alone=alone)


def _memory_and_disk(matrices: Sequence[Matrix]) -> Iterator[Figure]:
    peers = [taken.cost.peak_bytes for one in matrices for taken in one.peers.values()]
    yield Figure(
        name="most memory of any stage",
        unit="MB",
        ours=[max(taken.peak_bytes for taken in one.ours.values()) / MB for one in matrices],
        limit=STAGE_MB,
        note=f"{PEER}: {max(peers) / MB:,.0f} MB" if peers else "",
    )
    caches = [one.cache_bytes for one in matrices if one.cache_bytes]
    yield Figure(
        name="store after the recipes, contexts and engines apart",
        unit="MB",
        ours=[(one.disk.whole - one.disk.compiled) / MB for one in matrices],
        limit=STORE_MB,
        note=f"with them {matrices[-1].disk.whole / MB:,.0f} MB"
        + (f"; {PEER}'s cache: {max(caches) / MB:,.0f} MB" if caches else ""),
    )


def _similarity(matrix: Matrix) -> Iterator[Figure]:
    for name, sides in matrix.alike.items():
        if "ours" not in sides:
            continue
        for number, which in enumerate(("mean", "least")):
            lost = {side: PER_MILLE * (1 - cosines[number]) for side, cosines in sides.items()}
            against = [lost["peer"]] if lost.get("peer") else []
            what = f"{name}, 1 - {which} cosine with fp32"
            yield Figure(name=what, unit="‰", ours=[lost["ours"]], against=against, beside=PEER)


def _figure(
    name: str,
    unit: str,
    of: Callable[[Taken], float],
    matrices: Sequence[Matrix],
    names: Sequence[str],
    *,
    alone: bool = False,
    limit: float | None = None,
    note: str = "",
) -> Figure:
    """Summed over recipes, a sample a repeat."""
    ours = [sum(of(one.ours[recipe]) for recipe in names) for one in matrices]
    peers = [] if alone else [sum(of(one.peers[recipe]) for recipe in names) for one in matrices]
    return Figure(name=name, unit=unit, ours=ours, against=peers, beside=PEER, limit=limit, note=note)


def _made(matrix: Matrix, name: str) -> bool:
    return name in matrix.peers and matrix.peers[name].model is not None


def _why_alone(matrices: Sequence[Matrix], name: str) -> str:
    """Why nothing stands beside a recipe of ours; empty where something does."""
    for one in matrices:
        if name not in one.peers:
            return f"no {PEER} here that could make it"
        if one.peers[name].model is None:
            taken = one.peers[name]
            return f"{PEER} made no model, exit code {taken.cost.code}: {taken.why}".replace("|", "/")
    return ""


def _cpu(taken: Taken) -> float:
    return taken.cost.cpu_s


def _cpu_like_for_like(taken: Taken) -> float:
    return taken.cost.cpu_s - sum(taken.stages.get(stage, 0.0) for stage in COMPILERS)


def _wall(taken: Taken) -> float:
    return taken.cost.wall_s


def _peak(taken: Taken) -> float:
    return taken.peak_bytes / MB
