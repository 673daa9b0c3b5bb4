"""Which calls may run at the same time. Pure: it knows no engine, no clock and no thread, only needs and what there is.

A call waits until all that it comes after is done, and until cores, memory and what it holds are free. Calls start in
the order in which they were added; one that doesn't fit yet lets later ones pass, but only so many, so that its turn
comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

PATIENCE = 8
"""How many calls may start before one that was ready earlier in the order and didn't fit."""


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What a machine has for calls."""

    cores: int
    memory: int
    """Bytes."""


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a call takes while it runs."""

    cores: int = 1
    """The most it makes use of; it runs with any number from one to that."""
    memory: int = 0
    """Bytes. More than there is at all is no refusal: nothing else runs meanwhile."""
    alone: bool = False
    """Nothing else runs meanwhile: its figures would say something of that, too."""
    holds: frozenset[str] = frozenset()
    """Names of what only one may use at a time: a device."""


@dataclass(frozen=True, kw_only=True)
class Grant:
    """A call that starts now, and the cores it is given."""

    key: str
    need: Need
    cores: int


class Scheduler:
    """The calls of a run, by key. Whoever runs them asks `start` for the next ones after each `finish` or `drop`."""

    def __init__(self, capacity: Capacity, need_of: Callable[[str], Need]) -> None:
        """`need_of` is asked once for each call, when all that it comes after is done."""
        self._capacity = capacity
        self._need_of = need_of
        self._waiting: dict[str, set[str]] = {}
        self._needs: dict[str, Need] = {}
        self._passed: dict[str, int] = {}
        self._running: dict[str, Grant] = {}
        self._done: set[str] = set()

    @property
    def busy(self) -> bool:
        """Whether anything runs or waits."""
        return bool(self._running or self._waiting)

    @property
    def waiting(self) -> list[str]:
        return list(self._waiting)

    def __contains__(self, key: str) -> bool:
        """Whether a call waits, runs or is done."""
        return key in self._waiting or key in self._running or key in self._done

    def add(self, key: str, after: Iterable[str] = ()) -> None:
        """A call that comes after others, which were added before it; one that is known already is left as it is."""
        if key in self:
            return
        before = set(after) - self._done
        if unknown := before - self._waiting.keys() - self._running.keys():
            raise KeyError(f"{key} comes after {sorted(unknown)}, which nobody added")
        self._waiting[key] = before

    def start(self) -> list[Grant]:
        """The calls that start now. They run, as far as this is concerned, until `finish` or `drop` is told of them."""
        chosen: list[str] = []
        skipped: list[str] = []
        for key in self._ready():
            if any(self._passed[before] >= PATIENCE for before in skipped):
                break
            if not self._fits(self._needs[key]):
                # One that runs alone waits for all others in any case: none of them passes it.
                skipped += [] if self._needs[key].alone else [key]
                continue
            self._running[key] = Grant(key=key, need=self._needs[key], cores=1)
            chosen.append(key)
            for before in skipped:
                self._passed[before] += 1
        for key in chosen:
            del self._waiting[key]
        self._share_cores(chosen)
        return [self._running[key] for key in chosen]

    def finish(self, key: str) -> None:
        """A running call is done: what waited for it no longer does."""
        del self._running[key]
        self._done.add(key)
        for before in self._waiting.values():
            before.discard(key)

    def drop(self, key: str) -> set[str]:
        """A call failed, or nobody wants it any more: it goes, with all that can't run without it. Their keys."""
        self._running.pop(key, None)
        gone = {key}
        # What comes after another was added after it: one pass sees all.
        for other, before in self._waiting.items():
            if before & gone:
                gone.add(other)
        for other in gone:
            self._waiting.pop(other, None)
        return gone

    def _ready(self) -> list[str]:
        """Keys that wait for no other, in order; those that run alone last, when nothing has to stop for them."""
        ready = [key for key, before in self._waiting.items() if not before]
        for key in ready:
            if key not in self._needs:
                self._needs[key] = self._need_of(key)
                self._passed[key] = 0
        return sorted(ready, key=lambda key: self._needs[key].alone)

    def _fits(self, need: Need) -> bool:
        running = [grant.need for grant in self._running.values()]
        if not running:
            return True
        if any(map(self._solitary, (need, *running))):
            return False
        return (
            self._free_cores() >= 1
            and sum(other.memory for other in running) + need.memory <= self._capacity.memory
            and not any(other.holds & need.holds for other in running)
        )

    def _solitary(self, need: Need) -> bool:
        return need.alone or need.memory > self._capacity.memory

    def _free_cores(self) -> int:
        return self._capacity.cores - sum(grant.cores for grant in self._running.values())

    def _share_cores(self, chosen: list[str]) -> None:
        """Hand the cores that are left to those that start now, one each in turn: two calls on one core each waste less
        than one after the other on both."""
        growing = list(chosen)
        while growing and self._free_cores() > 0:
            key = growing.pop(0)
            grant = self._running[key]
            if grant.cores < grant.need.cores:
                self._running[key] = Grant(key=key, need=grant.need, cores=grant.cores + 1)
                growing.append(key)
