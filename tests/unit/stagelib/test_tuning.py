"""Session settings: the fastest valid ones win, and only by more than noise."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stagelib.api import StageError
from stagelib.runtimes.base import Options, Placed
from stagelib.timing import Limits
from stagelib.tuning import FEWEST_RUNS, Trial, fastest, try_settings

FEEDS = [{"ids": np.full((1, 4), number)} for number in range(3)]
LIMITS = Limits(
    distinct_inputs=3,
    block=1,
    warmup_max=0,
    min_runs=FEWEST_RUNS,
    min_seconds=0,
    max_seconds=60,
    one_cpu=True,
    longest=1,
)
ANSWER = np.array([[1.0, 2.0, 3.0]])


class Clock:
    """Moves by what sessions say they take."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0
        monkeypatch.setattr(time, "perf_counter_ns", lambda: self.now)
        monkeypatch.setattr(time, "process_time_ns", lambda: self.now)
        monkeypatch.setattr(time, "get_clock_info", lambda _: SimpleNamespace(resolution=1e-9))


class Fake:
    """A session that takes so many milliseconds, answers so, and lies there."""

    device_name = "a processor"
    inputs = ("ids",)

    def __init__(self, clock: Clock, options: Options, behaviour: Mapping[str, Any]) -> None:
        self.settings: Mapping[str, str | int | None] = {"threads": 1, **options}
        self._clock = clock
        self._ms: float = behaviour.get("ms", 10.0)
        self._answer: NDArray[Any] = behaviour.get("answer", ANSWER)
        self._nodes: tuple[Placed, ...] = behaviour.get("nodes", (Placed(where="CPU", nodes=7),))

    def run(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self._clock.now += round(self._ms * 1e6)
        return {"hidden": self._answer * (1 + batch["ids"].sum())}

    def placement(self) -> tuple[Placed, ...]:
        return self._nodes


def search(clock: Clock, offered: Mapping[str, Mapping[str, Any]], **options: Any) -> dict[str, Trial]:
    """Try settings of which each is named for what it does."""

    def load(given: Options) -> Fake:
        behaviour = offered[str(given["how"])] if given else {}
        if behaviour.get("fails"):
            raise StageError("this release has no such option")
        return Fake(clock, given, behaviour)

    named: dict[str, Options] = {name: {"how": name} for name in offered}
    default, trials = try_settings(load, named, lambda _: FEEDS, LIMITS, lambda _: None, **options)
    assert default == {"threads": 1}
    return {trial.name: trial for trial in trials}


@pytest.mark.parametrize("default_last", [False, True])
def test_the_fastest_valid_setting_wins(monkeypatch: pytest.MonkeyPatch, *, default_last: bool) -> None:
    offered: dict[str, dict[str, Any]] = {"slower": {"ms": 11}, "fast": {"ms": 7}, "faster": {"ms": 6}}
    trials = search(Clock(monkeypatch), offered, default_last=default_last)
    assert {name: trial.ratio for name, trial in trials.items()} == {"slower": 1.1, "fast": 0.7, "faster": 0.6}
    best = fastest(list(trials.values()), seed=0)
    assert best is trials["faster"]
    assert len(best.candidate_cpu_ms) >= FEWEST_RUNS


def test_a_gain_within_the_noise_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = search(Clock(monkeypatch), {"hardly": {"ms": 9.8}, "same": {}})
    assert fastest(list(trials.values()), seed=0) is None


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        ({"answer": np.array([[1.0, 2.0, -3.0]])}, "outputs differ"),
        ({"answer": np.array([[1.0, 2.0, np.nan]])}, "outputs differ"),
        ({"answer": np.array([[1.0, 2.0]])}, "outputs differ"),
        ({"nodes": (Placed(where="GPU", nodes=7),)}, "placed otherwise: 7 nodes on GPU"),
        ({"fails": True}, "no such option"),
    ],
)
def test_a_fast_setting_that_is_not_valid_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, behaviour: dict[str, Any], why: str
) -> None:
    trials = search(Clock(monkeypatch), {"fast": {"ms": 1.0, **behaviour}, "fair": {"ms": 8.0}})
    assert why in trials["fast"].refused
    assert trials["fast"].ratio is None
    assert fastest(list(trials.values()), seed=0) is trials["fair"]


def test_fusions_may_change_the_number_of_nodes_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = search(Clock(monkeypatch), {"fused": {"ms": 5.0, "nodes": (Placed(where="CPU", nodes=3),)}})
    assert trials["fused"].refused == ""


def test_of_too_few_runs_nothing_is_concluded() -> None:
    few = Trial(name="few", options={}, candidate_ms=[1.0] * (FEWEST_RUNS - 1), baseline_ms=[2.0] * (FEWEST_RUNS - 1))
    assert fastest([few], seed=0) is None
