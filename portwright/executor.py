"""Runs the calls of a run's recipes on an engine, each at most once, side by side where the machine has room for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from portwright.board import Board
from portwright.calls import StageCall
from portwright.devices import Access
from portwright.engines.base import Engine
from portwright.errors import PortwrightError, StoreError
from portwright.maker import Maker, Order
from portwright.needs import PREPARING, Needs, size_of
from portwright.peaks import Peaks
from portwright.scheduler import Capacity, Grant, Need, Scheduler
from portwright.shelf import Done, Shelf
from portwright.stages import StageLibrary
from portwright.store import Artifact
from portwright.toolchain import Toolchain
from portwright.workers import Workers

End = list[Done] | PortwrightError
"""How a work ended: the outcomes of its calls, in their order, or the error of the first one that failed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """Calls that end together: a recipe's, or what is to be found out after them."""

    label: str
    calls: Sequence[StageCall]
    """Dependencies first."""
    ended: Callable[[End], Work | None]
    """Called once, by the thread that called `Executor.run`; what it returns is run, too."""
    access: Access | None = None
    """What of this machine the calls that ask for a device are given."""
    again: bool = False
    """Whether measurements are taken even if they are there."""


class Executor:
    """One run's executor. The engine is asked only for what the shelf doesn't hold."""

    def __init__(self, shelf: Shelf, engine: Engine, board: Board, shared: Path, capacity: Capacity) -> None:
        self._shelf = shelf
        self._engine = engine
        self._board = board
        self._workers: Workers[Done | None] = Workers()
        self._maker = Maker(shelf, engine, board, shared, self._workers.go_on)
        self._peaks = Peaks(shelf.store.root)
        self._needs = Needs(StageLibrary(shared), self._peaks, capacity.cores)
        self._scheduler = Scheduler(capacity, self._need)
        self._missing: dict[Work, set[str]] = {}
        """The works that haven't ended, each with the calls it waits for."""
        self._users: dict[str, list[Work]] = {}
        """Call to the works it is for, the first one being the one that it is made for."""
        self._orders: dict[str, Order] = {}
        self._toolchains: dict[str, Toolchain] = {}
        self._done: dict[str, Done] = {}

    def run(self, works: Sequence[Work]) -> None:
        """Run works to their ends: a call that fails ends those that need it, and the others go on.

        What is no error of ours, Ctrl-C among it, ends everything that runs before it is raised.
        """
        try:
            for work in works:
                self._open_work(work)
            while self._scheduler.busy:
                for grant in self._scheduler.start():
                    self._workers.start(grant.key, self._job(grant))
                self._take(*self._workers.next())
        except BaseException:
            self._workers.stop(self._engine.stop)
            raise
        finally:
            self._save_peaks()

    def _save_peaks(self) -> None:
        """Failing to is worth a word and no more: it must take the place of no result, and of no other error."""
        try:
            self._peaks.save()
        except StoreError as error:
            self._board.line(f"what stages took is not remembered: {error.message}: {error.why}")

    def _open_work(self, work: Work) -> None:
        """Look for what is there already, and have the scheduler wait with the rest."""
        self._missing[work] = {call.key for call in work.calls} - self._done.keys()
        try:
            for number, call in enumerate(work.calls, start=1):
                self._users.setdefault(call.key, []).append(work)
                if call.key not in self._done and call.key not in self._scheduler:
                    self._ask_for(work, call, f"{work.label} {number}/{len(work.calls)} {call.stage}")
        except PortwrightError as error:
            self._close(work, error)
            return
        if not self._missing[work]:
            self._close(work, self._outcomes(work))

    def _ask_for(self, work: Work, call: StageCall, title: str) -> None:
        again = work.again and call.kind == "measurement"
        done = None if again else self._shelf.find(call)
        if done is not None:
            self._board.line(f"{title}: cached")
            self._keep(done)
            return
        toolchain = _node(call.toolchain)
        self._toolchains[toolchain] = call.toolchain
        self._scheduler.add(toolchain)
        self._orders[call.key] = Order(call=call, label=work.label, title=title, again=again, access=work.access)
        inputs = [given.call.key for given in call.inputs.values() if given.call is not None]
        self._scheduler.add(call.key, [toolchain, *(key for key in inputs if key not in self._done)])

    def _need(self, key: str) -> Need:
        return PREPARING if key in self._toolchains else self._needs.of(self._orders[key].call, self._done)

    def _job(self, grant: Grant) -> Callable[[], Done | None]:
        if grant.key in self._toolchains:
            return partial(self._maker.prepare, self._toolchains[grant.key])
        order = self._orders[grant.key]
        inputs: dict[str, Artifact] = {}
        for given in order.call.inputs.values():
            if given.call is not None:
                artifact = self._done[given.call.key].artifact
                assert artifact is not None
                inputs[given.call.key] = artifact
        return partial(self._maker.make, order, grant, inputs)

    def _take(self, key: str, end: Done | BaseException | None) -> None:
        """What a worker brought: an outcome, a prepared toolchain, or what it raised."""
        if isinstance(end, PortwrightError):
            gone = self._scheduler.drop(key)
            for work in [work for work, missing in self._missing.items() if missing & gone]:
                self._close(work, end)
            return
        if isinstance(end, BaseException):
            raise end
        if end is not None:
            if end.cached:
                self._board.line(f"{self._orders[key].title}: cached")
            else:
                self._peaks.saw(end.call.stage, size_of(end.call, self._done), end.peak_memory_bytes)
            self._keep(end)
        self._scheduler.finish(key)
        for work in [work for work in self._users.get(key, ()) if self._missing.get(work) == set()]:
            self._close(work, self._outcomes(work))

    def _keep(self, done: Done) -> None:
        self._done[done.call.key] = done
        for work in self._users[done.call.key]:
            if work in self._missing:
                self._missing[work].discard(done.call.key)

    def _outcomes(self, work: Work) -> list[Done]:
        """The outcomes of a work's calls; what was made for another work was found by this one."""
        found = ((self._done[call.key], self._users[call.key][0]) for call in work.calls)
        return [done if first is work else replace(done, cached=True) for done, first in found]

    def _close(self, work: Work, end: End) -> None:
        """End a work. What only it wanted, and what doesn't run yet, is not run."""
        given_up = self._missing.pop(work)
        if more := work.ended(end):
            self._open_work(more)
        for key in given_up:
            if key in self._scheduler.waiting and not any(user in self._missing for user in self._users[key]):
                self._scheduler.drop(key)
        if given_up:
            wanted = {_node(self._orders[key].call.toolchain) for key in self._scheduler.waiting if key in self._orders}
            for key in self._toolchains.keys() & set(self._scheduler.waiting) - wanted:
                self._scheduler.drop(key)


def _node(toolchain: Toolchain) -> str:
    return f"toolchain {toolchain.name}"
