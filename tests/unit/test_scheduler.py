"""The scheduler on a clock that only counts: whatever the graph, what runs together fits, and all get their turn."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portwright.scheduler import PATIENCE, Capacity, Grant, Need, Scheduler

GB = 10**9
few = settings(max_examples=60, deadline=None)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A call of a made-up run. `after` are indices of earlier ones; `seconds` how long it takes on one core."""

    need: Need
    after: tuple[int, ...] = ()
    seconds: int = 1
    fails: bool = False


@dataclass
class Clock:
    """Runs jobs as long as there are any, and notes who ran beside whom."""

    jobs: Sequence[Job]
    capacity: Capacity
    now: float = 0.0
    started: list[str] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)
    together: list[dict[str, Grant]] = field(default_factory=list)
    passed: dict[str, list[str]] = field(default_factory=dict)
    """Each call that could not start at once, with those later in order that started before it."""

    def run(self) -> Clock:
        scheduler = Scheduler(self.capacity, lambda key: self.jobs[int(key)].need)
        for index, job in enumerate(self.jobs):
            scheduler.add(str(index), map(str, job.after))
        running: dict[str, Grant] = {}
        ends: list[tuple[float, str]] = []
        while scheduler.busy:
            ready = self._ready(scheduler, running)
            for grant in scheduler.start():
                running[grant.key] = grant
                heapq.heappush(ends, (self.now + self.jobs[int(grant.key)].seconds / grant.cores, grant.key))
                self.started.append(grant.key)
                for key in ready:
                    if key not in self.started and int(key) < int(grant.key):
                        self.passed.setdefault(key, []).append(grant.key)
            assert running, "nothing runs, and yet there is something to do"
            self.together.append(dict(running))
            self.now, key = heapq.heappop(ends)
            del running[key]
            if self.jobs[int(key)].fails:
                self.dropped |= scheduler.drop(key)
            else:
                scheduler.finish(key)
        return self

    def _ready(self, scheduler: Scheduler, running: dict[str, Grant]) -> list[str]:
        over = set(self.started) - running.keys()
        return [key for key in scheduler.waiting if {str(index) for index in self.jobs[int(key)].after} <= over]


needs = st.builds(
    Need,
    cores=st.integers(1, 6),
    memory=st.integers(0, 12),
    alone=st.sampled_from([False, False, False, True]),
    holds=st.frozensets(st.sampled_from(["npu", "gpu"])),
)


@st.composite
def runs(draw: st.DrawFn) -> Clock:
    count = draw(st.integers(1, 12))
    jobs = [
        Job(
            need=draw(needs),
            after=tuple(sorted(draw(st.sets(st.integers(0, index - 1), max_size=3)))) if index else (),
            seconds=draw(st.integers(1, 9)),
            fails=draw(st.sampled_from([False] * 9 + [True])),
        )
        for index in range(count)
    ]
    return Clock(jobs, Capacity(cores=draw(st.integers(1, 4)), memory=draw(st.integers(1, 10))))


@few
@given(runs())
def test_what_runs_together_fits(clock: Clock) -> None:
    for grants in clock.run().together:
        assert all(1 <= grant.cores <= max(1, grant.need.cores) for grant in grants.values())
        assert sum(grant.cores for grant in grants.values()) <= clock.capacity.cores
        if len(grants) > 1:
            assert sum(grant.need.memory for grant in grants.values()) <= clock.capacity.memory
            assert not any(grant.need.alone for grant in grants.values())
        held = [name for grant in grants.values() for name in grant.need.holds]
        assert len(held) == len(set(held))


@few
@given(runs())
def test_everything_runs_once_after_what_it_comes_after_unless_that_failed(clock: Clock) -> None:
    clock.run()
    assert len(clock.started) == len(set(clock.started))
    failed = {str(index) for index, job in enumerate(clock.jobs) if job.fails}
    lost: set[str] = set()
    for index, job in enumerate(clock.jobs):
        if {str(before) for before in job.after} & (lost | (failed & set(clock.started))):
            lost.add(str(index))
    assert set(clock.started) == {str(index) for index in range(len(clock.jobs))} - lost
    assert clock.dropped == lost | (failed & set(clock.started))
    for index, job in enumerate(clock.jobs):
        if str(index) in clock.started:
            place = clock.started.index(str(index))
            assert all(clock.started.index(str(before)) < place for before in job.after)


@few
@given(runs())
def test_a_call_that_does_not_fit_is_passed_only_so_often(clock: Clock) -> None:
    clock.run()
    for key, passing in clock.passed.items():
        assert clock.jobs[int(key)].need.alone or len(passing) <= PATIENCE


@few
@given(runs())
def test_the_same_run_goes_the_same_way(clock: Clock) -> None:
    again = Clock(clock.jobs, clock.capacity).run()
    assert again.started == clock.run().started
    assert again.together == clock.together


@few
@given(runs())
def test_no_core_idles_while_a_call_could_use_it(clock: Clock) -> None:
    """Whenever calls start, cores are left only if none of those can use them."""
    before: dict[str, Grant] = {}
    for grants in clock.run().together:
        new = [grant for key, grant in grants.items() if key not in before]
        if sum(grant.cores for grant in grants.values()) < clock.capacity.cores:
            assert all(grant.cores >= grant.need.cores for grant in new)
        before = grants


def test_two_of_4_gb_never_start_together_on_6_gb() -> None:
    jobs = [Job(need=Need(memory=4 * GB)), Job(need=Need(memory=4 * GB)), Job(need=Need(memory=2 * GB))]
    clock = Clock(jobs, Capacity(cores=8, memory=6 * GB)).run()
    assert sorted(clock.together[0]) == ["0", "2"]
    assert not any({"0", "1"} <= grants.keys() for grants in clock.together)


def test_a_call_larger_than_the_machine_runs_alone() -> None:
    jobs = [Job(need=Need(memory=1)), Job(need=Need(memory=100)), Job(need=Need(memory=1))]
    clock = Clock(jobs, Capacity(cores=8, memory=10)).run()
    assert [list(grants) for grants in clock.together if "1" in grants] == [["1"]]


def test_what_measures_waits_for_all_that_can_run_and_runs_alone() -> None:
    alone = Need(alone=True, cores=2)
    jobs = [Job(need=alone), Job(need=Need(), seconds=5), Job(need=Need(), seconds=2), Job(need=alone)]
    clock = Clock(jobs, Capacity(cores=2, memory=10)).run()
    assert clock.started == ["1", "2", "0", "3"]
    assert [len(grants) for grants in clock.together[-2:]] == [1, 1]


def test_ready_calls_share_the_cores_and_a_lone_one_gets_them_all() -> None:
    wide = Need(cores=4)
    scheduler = Scheduler(Capacity(cores=4, memory=1), lambda _: wide)
    for key in "ab":
        scheduler.add(key)
    assert [(grant.key, grant.cores) for grant in scheduler.start()] == [("a", 2), ("b", 2)]
    scheduler.finish("a")
    scheduler.finish("b")
    scheduler.add("c")
    assert [(grant.key, grant.cores) for grant in scheduler.start()] == [("c", 4)]


def test_a_need_is_asked_for_when_what_it_depends_on_is_there() -> None:
    asked: list[str] = []

    def need(key: str) -> Need:
        asked.append(key)
        return Need()

    scheduler = Scheduler(Capacity(cores=2, memory=1), need)
    scheduler.add("a")
    scheduler.add("b", ["a"])
    scheduler.start()
    assert asked == ["a"]
    scheduler.finish("a")
    scheduler.start()
    assert asked == ["a", "b"]


def test_a_call_that_comes_after_an_unknown_one_is_a_mistake() -> None:
    with pytest.raises(KeyError, match="nobody added"):
        Scheduler(Capacity(cores=1, memory=1), lambda _: Need()).add("b", ["a"])
