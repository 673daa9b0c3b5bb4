"""Session settings: which are valid, which is fastest, and that the default stays where nothing clearly wins."""

from __future__ import annotations

import dataclasses
import io
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from stagelib import bench_facts, measure, tuning
from stagelib.api import Call, StageError
from stagelib.bench_passes import Passes, Search
from stagelib.bench_worker import Outcome
from stagelib.runtimes import base, onnxruntime, openvino
from stagelib.runtimes.base import Options, Placed, Runtime, Session
from stagelib.stages.benchmark import Params
from stagelib.timing import Limits
from stagelib.tuning import FEWEST_RUNS, Trial, fastest, try_settings

LIMITS = Limits(
    distinct_inputs=2,
    block=1,
    warmup_max=0,
    min_runs=FEWEST_RUNS,
    min_seconds=0,
    max_seconds=60,
    one_cpu=True,
    longest=1,
)
FEEDS = [{"input": np.arange(4.0)}, {"input": np.ones(4)}]
CPU = (Placed(where="CPU", nodes=7),)


class Machine:
    """Clocks that only runs move, and sessions that say what to do to them by their options."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0
        self.loaded: list[Options] = []
        monkeypatch.setattr(time, "perf_counter_ns", lambda: self.now)
        monkeypatch.setattr(time, "process_time_ns", lambda: self.now)
        monkeypatch.setattr(time, "get_clock_info", lambda _: SimpleNamespace(resolution=1e-9))

    def load(self, options: Options) -> Session:
        self.loaded.append(options)
        if "broken" in options:
            raise StageError("no such option")
        return Fake(self, options)


@dataclasses.dataclass
class Fake:
    """Answers its input; options change how long that takes, what comes out, and where the nodes are."""

    machine: Machine
    options: Options
    inputs: tuple[str, ...] = ("input",)
    device_name: str = "made up"

    @property
    def settings(self) -> Mapping[str, str | int | None]:
        return {"threads": 1, **self.options}

    def run(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self.machine.now += int(self.options.get("us", 10_000)) * 1000
        return {"output": ANSWERS[str(self.options.get("answer"))](batch["input"])}

    def placement(self) -> tuple[Placed, ...]:
        return PLACES.get(str(self.options.get("placed")), CPU)


ANSWERS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "None": lambda array: array,
    "rounded": lambda array: array + 1e-6,
    "other": lambda array: array + np.array([0.02, 0.0, 0.0, 0.0]),
    "infinite": lambda array: np.full_like(array, np.inf),
    "short": lambda array: array[:2],
}
PLACES = {
    "fused": (Placed(where="CPU", nodes=3),),
    "elsewhere": (Placed(where="GPU", nodes=7),),
    "split": (Placed(where="CPU", nodes=6), Placed(where="GPU", nodes=1)),
}


def tried(machine: Machine, offered: Mapping[str, Options], **how: Any) -> dict[str, Trial]:
    _, trials = try_settings(machine.load, offered, lambda _: FEEDS, LIMITS, lambda _: None, **how)
    return {trial.name: trial for trial in trials}


def test_the_second_setting_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    offered: dict[str, Options] = {"slow": {"us": 12_000}, "fast": {"us": 8_000}, "little": {"us": 9_800}}
    settings, trials = try_settings(machine.load, offered, lambda _: FEEDS, LIMITS, lambda _: None)
    assert settings == {"threads": 1}
    assert {trial.name: trial.ratio for trial in trials} == pytest.approx({"slow": 1.2, "fast": 0.8, "little": 0.98})
    assert {len(trial.candidate_ms) for trial in trials} == {FEWEST_RUNS}
    best = fastest(trials, seed=0)
    assert best is not None
    assert (best.name, best.options) == ("fast", {"us": 8_000})


def test_the_default_wins_a_tie(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = tried(Machine(monkeypatch), {"same": {}, "within noise": {"us": 9_750}, "slower": {"us": 10_500}})
    assert fastest(list(trials.values()), seed=0) is None


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"answer": "other"}, "outputs differ"),
        ({"answer": "infinite"}, "outputs differ: cosine 0.0"),
        ({"answer": "short"}, "outputs differ: cosine 0.0"),
        ({"placed": "elsewhere"}, "7 nodes on GPU, by default 7 nodes on CPU"),
        ({"placed": "split"}, "6 nodes on CPU, 1 nodes on GPU"),
        ({"broken": 1}, "no such option"),
    ],
)
def test_what_is_faster_and_not_valid_never_wins(monkeypatch: pytest.MonkeyPatch, options: Options, why: str) -> None:
    trials = tried(Machine(monkeypatch), {"wrong": {"us": 1_000, **options}, "right": {"us": 9_000}})
    assert why in trials["wrong"].refused
    assert trials["wrong"].candidate_ms == []
    best = fastest(list(trials.values()), seed=0)
    assert best is not None
    assert best.name == "right"


@pytest.mark.parametrize("options", [{"answer": "rounded"}, {"placed": "fused"}])
def test_rounding_and_fusions_are_allowed(monkeypatch: pytest.MonkeyPatch, options: Options) -> None:
    assert tried(Machine(monkeypatch), {"other": options})["other"].refused == ""


def test_an_output_that_is_zero_by_default_must_be_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ANSWERS, "None", np.zeros_like)
    monkeypatch.setitem(ANSWERS, "zero", np.zeros_like)
    trials = tried(Machine(monkeypatch), {"same": {"answer": "zero"}, "other": {"answer": "rounded"}})
    assert trials["same"].refused == ""
    assert "cosine 0.0" in trials["other"].refused


def test_nothing_is_like_an_answer_that_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ANSWERS, "None", lambda array: array * np.array([1, 1, 1, np.nan]))
    monkeypatch.setitem(ANSWERS, "finite", lambda array: array)
    trials = tried(Machine(monkeypatch), {"finite": {"answer": "finite"}, "same": {}})
    assert all("cosine 0.0" in one.refused for one in trials.values())


def test_the_second_search_loads_in_the_opposite_order(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    offered: dict[str, Options] = {"a": {"us": 1}, "b": {"us": 2}}
    tried(machine, offered)
    tried(machine, offered, default_last=True)
    assert machine.loaded == [{}, {"us": 1}, {"us": 2}, {"us": 2}, {"us": 1}, {}]


def trial(name: str, candidate: Sequence[float], baseline: Sequence[float]) -> Trial:
    return Trial(name=name, options={"a": 1}, candidate_ms=list(candidate), baseline_ms=list(baseline))


def test_few_runs_or_a_wide_interval_conclude_nothing() -> None:
    few = trial("few", [5.0] * (FEWEST_RUNS - 1), [10.0] * (FEWEST_RUNS - 1))
    noisy = trial("noisy", [8.0] * 5 + [10.5] * 3, [10.0] * 8)
    assert noisy.ratio is not None
    assert noisy.ratio < 1 - tuning.LEAST_GAIN
    assert fastest([few, noisy], seed=0) is None


class Recorded(Passes):
    """Passes whose processes are made up: each asked for by its mode, with what it was told."""

    def __init__(self, answers: Sequence[Outcome | StageError], runtime: Runtime, **params: Any) -> None:
        self.events = io.StringIO()
        call = Call(stage="benchmark", inputs={}, output=Path(), scratch=Path(), events=self.events)
        super().__init__(call, Params(runtime="x", device="CPU", **params), runtime, [0, 1], on_device=False)
        self.answers = list(answers)
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def _run(self, mode: str, **how: Any) -> Outcome:
        self.asked.append((mode, how))
        answer = self.answers.pop(0)
        if isinstance(answer, StageError):
            raise answer
        return answer


FAST, SLOW = {"fast": {"a": 1}}, {"slow": {"b": 1}}


def offering(offered: Mapping[str, Options]) -> Any:
    return SimpleNamespace(candidates=lambda *_: offered)


def search_outcome(**ratios: float) -> Outcome:
    trials = [trial(name, [10 * ratio] * FEWEST_RUNS, [10.0] * FEWEST_RUNS) for name, ratio in ratios.items()]
    return Outcome(settings={"threads": 1}, trials=[dataclasses.asdict(one) for one in trials])


@pytest.mark.parametrize(("again", "chosen"), [(0.7, {"a": 1}), (0.99, {})])
def test_what_wins_must_win_again_before_it_is_used(again: float, chosen: Options) -> None:
    measured = Outcome(settings={"threads": 1, **chosen})
    passes = Recorded([search_outcome(fast=0.6, slow=1.2), search_outcome(fast=again), measured], offering(FAST | SLOW))
    passes.main()
    assert [mode for mode, _ in passes.asked] == ["search", "search", "compare"]
    assert passes.asked[1][1]["offered"].keys() == {"fast"}
    assert passes.asked[1][1]["default_last"]
    assert passes.asked[2][1]["options"] == chosen
    facts = bench_facts.session_settings(passes.searches["one_thread"], 0)
    assert facts["chosen"] == ("fast" if chosen else "default")
    assert (facts["settings"], facts["default"]) == ({"threads": 1, **chosen}, {"threads": 1})
    assert facts["again"]["ratio"] == again


@pytest.mark.parametrize("lost", ["first", "second"])
def test_a_search_that_dies_leaves_the_default_and_says_why(lost: str) -> None:
    died = StageError("the benchmark's process was ended by SIGKILL")
    before: list[Outcome] = [] if lost == "first" else [search_outcome(fast=0.5, slow=1.2)]
    measured = Outcome(settings={"threads": 1}, candidate_ms=[1.0])
    passes = Recorded([*before, died, measured], offering(FAST | SLOW))
    assert passes.main() is measured
    assert passes.asked[-1] == ("compare", {**passes.asked[-1][1], "options": {}})
    facts = bench_facts.session_settings(passes.searches["one_thread"], 0)
    assert (facts["chosen"], facts["default"]) == ("default", {"threads": 1})
    refused = facts["tried"] if lost == "first" else [facts["again"]]
    assert [one["name"] for one in refused] == (["fast", "slow"] if lost == "first" else ["fast"])
    assert all("SIGKILL" in one["refused"] and one["ratio"] is None for one in refused)
    samples = bench_facts.search_samples("one_thread", passes.searches["one_thread"])
    assert len(samples) == 2 * FEWEST_RUNS * len(before)
    assert "SIGKILL" in passes.events.getvalue()


def test_what_cannot_be_measured_is_no_matter_of_settings() -> None:
    gone = StageError("the device went away")
    with pytest.raises(StageError, match="went away"):
        Recorded([gone, gone], offering(FAST)).main()


class Worker:
    """A process that says how far it is, and has ended with that code; a killed one is on record."""

    def __init__(self, *lines: str, returncode: int) -> None:
        self.stdout = lines
        self.returncode = returncode
        self.killed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Popen waits here."""

    def kill(self) -> None:
        self.killed = True


def wait_for(worker: Worker, monkeypatch: pytest.MonkeyPatch, progress: Callable[..., None] = lambda *_: None) -> None:
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: worker)
    passes = Recorded([], offering({}))
    passes._call = SimpleNamespace(progress=progress)  # type: ignore[assignment]
    passes._wait([], Path("no result"), 0)


@pytest.mark.parametrize(
    ("code", "words"), [(-9, r"was ended by SIGKILL .*out of memory"), (-11, "by SIGSEGV$"), (3, "with code 3$")]
)
def test_how_a_process_ended_is_said(code: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StageError) as raised:
        wait_for(Worker(returncode=code), monkeypatch)
    assert re.search(words, raised.value.message)


@pytest.mark.parametrize("raised", [KeyboardInterrupt, BrokenPipeError])
def test_no_process_outlives_an_interrupt_or_a_host_that_is_gone(
    raised: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(_: float, text: str) -> None:
        if text == "measuring":
            raise raised

    worker = Worker("0.1", returncode=0)
    with pytest.raises(raised):
        wait_for(worker, monkeypatch, stopped)
    assert worker.killed


def test_all_threads_have_settings_of_their_own() -> None:
    answers = [
        search_outcome(fast=1.0),
        Outcome(),
        search_outcome(fast=0.5),
        search_outcome(fast=0.5),
        *[Outcome()] * 3,
    ]
    passes = Recorded(answers, offering(FAST))
    passes.main()
    passes.everything()
    passes.first(cold=True)
    passes.sustained()
    used = [how["options"] for mode, how in passes.asked if mode != "search"]
    assert used == [{}, {"a": 1}, {"a": 1}, {"a": 1}]


@pytest.mark.parametrize(
    ("runtime", "params"),
    [(offering(FAST), {"search_seconds": 0.0}), (offering({}), {}), (SimpleNamespace(), {})],
    ids=["switched off", "nothing offered", "not tunable"],
)
def test_without_a_search_the_default_is_measured(runtime: Any, params: dict[str, float]) -> None:
    passes = Recorded([Outcome(settings={"threads": 1})], runtime, **params)
    passes.main()
    assert [(mode, how["options"]) for mode, how in passes.asked] == [("compare", {})]
    facts = bench_facts.session_settings(passes.searches["one_thread"], 0)
    assert (facts["chosen"], facts["tried"], facts["default"]) == ("default", [], {"threads": 1})


def test_ratios_can_be_made_again_from_the_samples() -> None:
    times = [4.0, 5.0, 4.5, 6.0, 4.0, 5.5, 4.2, 4.1]
    search = Search(threads=1, trials=(trial("fast", times, [10.0] * 8), trial("slow", [20.0] * 8, [10.0] * 8)))
    lines = [line for line in bench_facts.search_samples("one_thread", search) if line["setting"] == "fast"]
    found = measure.median_ratio([line["candidate_ms"] for line in lines], [line["baseline_ms"] for line in lines])
    assert {line["pass"] for line in lines} == {"settings_one_thread"}
    assert found == bench_facts.session_settings(search, 0)["tried"][0]["ratio"]


@pytest.mark.parametrize("given", [{"search_seconds": -1}, {"search_seconds": float("nan")}, {"seed": -1}])
def test_what_makes_no_sense_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(given))):
        Params(runtime="x", device="CPU", **given)


def test_options_go_only_to_a_runtime_that_offers_them() -> None:
    given: list[dict[str, Any]] = []
    load = lambda _folder, **how: given.append(how)  # noqa: E731 - two runtimes share it
    base.load_with(SimpleNamespace(load=load), Path(), "CPU", 1, {})
    base.load_with(SimpleNamespace(load=load, candidates=None), Path(), "CPU", 1, {"a": 1})
    assert [how.get("options") for how in given] == [None, {"a": 1}]


def test_what_the_runtimes_offer() -> None:
    assert set(onnxruntime.candidates("CPU", 1)) == {"basic graph optimization"}
    assert onnxruntime.candidates("CPU", 4)["half the threads"] == {"intra_op_num_threads": 2}
    assert openvino.candidates("CPU", 1) == {}
    assert openvino.candidates("CPU", 2) == {"half the threads": {"INFERENCE_NUM_THREADS": 1}}
    assert openvino.candidates("NPU", 4) == {}
