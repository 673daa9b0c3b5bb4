"""The executor with several recipes: what they share, what runs beside what, and how all of it is ended."""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import pytest

from portwright.board import Board
from portwright.calls import RecipePlan, StageCall
from portwright.engines.base import Job
from portwright.errors import EngineError, StageFailedError
from portwright.executor import End, Executor, Work
from portwright.locks import held
from portwright.peaks import PEAKS, Peaks, Size
from portwright.shelf import Shelf
from portwright.workers import Workers
from stagelib import machinelock
from stagelib.machinelock import MEASURING, machine_wide
from support.pretend import PROJECT, TWO_CORES, PretendEngine, execute, plan_of

SOON_S = 20


@pytest.fixture(autouse=True)
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for what this machine measures meanwhile."""
    folder = tmp_path / "shared-locks"
    folder.mkdir()
    monkeypatch.setattr(machinelock, "SHARED", folder)


@pytest.fixture
def plans(tmp_path: Path) -> dict[str, RecipePlan]:
    """Two recipes that share model, texts, export and reference."""
    data = tmp_path / "texts.jsonl"
    data.write_text('{"premise": "a", "hypothesis": "b", "label": 0}\n')
    return {
        "first": plan_of("cpu", "bert-base-portuguese-cased_fp32_cpu", data),
        "second": plan_of("cpu", "bert-base-portuguese-cased_qdq_cpu", data),
    }


def calls(plans: dict[str, RecipePlan]) -> dict[str, Sequence[StageCall]]:
    return {name: plan.calls for name, plan in plans.items()}


def test_what_recipes_share_is_made_once_and_found_by_the_others(tmp_path: Path, plans: dict[str, RecipePlan]) -> None:
    engine = PretendEngine()
    ends = execute(tmp_path, engine, calls(plans), capacity=TWO_CORES)
    first, second = ends["first"], ends["second"]
    assert isinstance(first, list)
    assert isinstance(second, list)
    assert len(engine.ran) == len({call.key for plan in plans.values() for call in plan.calls})
    assert not any(done.cached for done in first)
    keys = {call.key for call in plans["first"].calls}
    assert [done.cached for done in second] == [call.key in keys for call in plans["second"].calls]
    assert [done.call.key for done in second] == [call.key for call in plans["second"].calls]
    assert sorted(engine.prepared) == ["exporter", "ort"]


def test_a_failed_call_ends_the_recipes_that_need_it_and_no_other(tmp_path: Path, plans: dict[str, RecipePlan]) -> None:
    def fail(job: Job) -> None:
        if job.stage == "quantize_qdq":
            raise StageFailedError("no")

    engine = PretendEngine(fail)
    ends = execute(tmp_path, engine, calls(plans), capacity=TWO_CORES)
    assert isinstance(ends["first"], list)
    assert isinstance(ends["second"], StageFailedError)
    assert engine.labels.count("second/package") == engine.labels.count("second/benchmark") == 0


def test_a_toolchain_that_cannot_be_built_is_tried_once(tmp_path: Path, plans: dict[str, RecipePlan]) -> None:
    engine = PretendEngine()
    engine.unbuildable = {"exporter"}
    ends = execute(tmp_path, engine, calls(plans), capacity=TWO_CORES)
    assert isinstance(ends["first"], EngineError)
    assert ends["second"] is ends["first"]
    # Nobody needs the other toolchain any more.
    assert (engine.prepared, engine.ran) == (["exporter"], [])


class Together:
    """Notes which stages run at the same time."""

    def __init__(self) -> None:
        self.seen: set[frozenset[str]] = set()
        self._running: list[str] = []
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)

    def __call__(self, job: Job) -> None:
        with self._changed:
            self._running.append(job.label)
            self.seen.add(frozenset(self._running))
            self._changed.notify_all()
            # Long enough for whatever may start to start.
            self._changed.wait(0.1)
            self._running.remove(job.label)


def test_stages_run_side_by_side_and_a_measurement_of_time_alone(tmp_path: Path, plans: dict[str, RecipePlan]) -> None:
    together = Together()
    engine = PretendEngine(together)
    execute(tmp_path, engine, calls(plans), capacity=TWO_CORES)
    assert {len(labels) for labels in together.seen} == {1, 2}
    measured = [labels for labels in together.seen if any("benchmark" in label for label in labels)]
    assert [len(labels) for labels in measured] == [1, 1]
    assert engine.threads["first/benchmark"] is None
    assert engine.threads["first/export"] == 1
    assert set(engine.threads.values()) <= {None, 1, 2}


def test_what_a_work_finds_out_may_ask_for_more(tmp_path: Path, plans: dict[str, RecipePlan]) -> None:
    ends: dict[str, End] = {}
    plan = plans["second"]
    assert plan.diagnose is not None
    more = Work(label="second", calls=[plan.diagnose], ended=partial(ends.__setitem__, "more"))
    work = Work(label="second", calls=plan.calls, ended=lambda _: more)
    engine = PretendEngine()
    Executor(Shelf(tmp_path / "artifacts"), engine, Board(), PROJECT.shared, TWO_CORES).run([work])
    assert engine.ran[-1] == "diagnose"
    assert isinstance(ends["more"], list)


def test_what_stages_took_is_remembered(tmp_path: Path, plans: dict[str, RecipePlan]) -> None:
    execute(tmp_path, PretendEngine(), calls(plans))
    assert Peaks(tmp_path / "artifacts").of("read_data", Size()) == 1


@pytest.mark.parametrize("error", [None, ZeroDivisionError])
def test_a_memory_that_cannot_be_written_hides_no_end(
    tmp_path: Path,
    plans: dict[str, RecipePlan],
    capsys: pytest.CaptureFixture[str],
    error: type[BaseException] | None,
) -> None:
    def meanwhile(job: Job) -> None:
        if error and job.stage == "benchmark":
            raise error

    (tmp_path / "artifacts" / PEAKS).mkdir(parents=True)
    with pytest.raises(error) if error else nullcontext():
        ends = execute(tmp_path, PretendEngine(meanwhile), calls(plans))
        assert all(isinstance(end, list) for end in ends.values())
    assert "what stages took is not remembered" in capsys.readouterr().err


@contextmanager
def ends_soon() -> Iterator[None]:
    """Everything in it is over, with no thread left, long before the time that ending may take."""
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_what_is_no_error_of_ours_ends_everything(
    tmp_path: Path, plans: dict[str, RecipePlan], error: type[BaseException]
) -> None:
    def meanwhile(job: Job) -> None:
        if job.stage == "synthesize":
            # The other stage is under way, and waits for the engine to end it.
            assert engine.stopped.wait(SOON_S)
            raise StageFailedError("killed")
        if error is KeyboardInterrupt:
            _thread.interrupt_main()
            assert engine.stopped.wait(SOON_S)
        raise error

    engine = PretendEngine(meanwhile)
    with ends_soon(), pytest.raises(error):
        execute(tmp_path, engine, calls(plans), capacity=TWO_CORES)
    assert sorted(engine.ran) == ["read_data", "synthesize"]
    assert list((tmp_path / "artifacts" / "tmp").iterdir()) == []
    assert list((tmp_path / "artifacts" / "store").glob("*/*")) == []
    # The next run goes on.
    assert isinstance(execute(tmp_path, PretendEngine(), calls(plans))["second"], list)


def test_an_engine_that_cannot_be_stopped_hides_no_thread() -> None:
    workers: Workers[None] = Workers()
    gone = threading.Event()

    def job() -> None:
        try:
            while not gone.wait(0.01):
                workers.go_on()
        finally:
            time.sleep(0.1)  # it has something to clean up
            gone.set()

    def kill() -> None:
        raise ZeroDivisionError

    workers.start("one", job)
    with pytest.raises(ZeroDivisionError):
        workers.stop(kill)
    assert gone.is_set()


def test_a_run_that_waits_for_another_can_be_ended(tmp_path: Path, plans: dict[str, RecipePlan]) -> None:
    first = plans["first"].calls[0]
    folder = tmp_path / "artifacts" / "locks"
    folder.mkdir(parents=True)
    engine = PretendEngine()
    timer = threading.Timer(1.0, _thread.interrupt_main)
    with held(folder / f"{first.key}.lock", lambda: None):
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            execute(tmp_path, engine, {"first": [first]})
    timer.join()
    assert engine.ran == []
    assert [thread.name for thread in threading.enumerate() if thread.name == first.key] == []


def test_only_what_measures_time_waits_for_another_runs_benchmark(tmp_path: Path, plans: dict[str, RecipePlan]) -> None:
    evaluated = []
    timer = threading.Timer(1.0, _thread.interrupt_main)

    def meanwhile(job: Job) -> None:
        if job.stage == "evaluate":
            evaluated.append(job.label)
            if len(evaluated) == len(plans):
                timer.start()

    engine = PretendEngine(meanwhile)
    with machine_wide(MEASURING, lambda: None), pytest.raises(KeyboardInterrupt):
        execute(tmp_path, engine, calls(plans), capacity=TWO_CORES)
    timer.join()
    assert "benchmark" not in engine.ran
