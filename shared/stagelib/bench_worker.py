"""One pass of the benchmark, in a process of its own: `python -m stagelib.bench_worker SPEC.json`.

`compare`: candidate and fp32 baseline in turn on the same inputs (`stagelib.timing`); where no baseline is at hand (a
bundle on its device may bring none) the candidate alone. `first`: loading and the first inference. `sustained`: the
candidate alone for a while. `search`: the candidate with each of the offered settings, in turn with its default ones
(`stagelib.tuning`). The affinity is set before anything is imported that starts threads. Standard output
carries one progress line a step and nothing else; the outcome is written to the file that the specification names.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from stagelib.api import StageError
from stagelib.processes import die_first, die_with_parent, forbid_network

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stagelib.runtimes.base import Session

BASELINE_RUNTIME, BASELINE_DEVICE = "onnxruntime", "cpu"
DISTINCT_INPUTS = 8
SEARCH_PATIENCE = 4
"""Times `search_seconds`: with too few runs by then the default settings stay."""
Mode = Literal["compare", "first", "sustained", "search"]
PROGRESS_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What to measure. `cpus` are those this process may use; `threads` what each runtime is told."""

    mode: Mode
    model: str
    reference: str | None
    batches: str
    runtime: str
    device: str
    cpus: tuple[int, ...] | None
    threads: int
    block: int
    cold: bool
    """Ask the kernel to forget the model's files before they are loaded."""
    warmup_max: int
    min_runs: int
    min_seconds: float
    max_seconds: float
    sustained_seconds: float
    search_seconds: float
    options: dict[str, str | int]
    """Of the candidate's session, beyond its runtime's default ones."""
    offered: dict[str, dict[str, str | int]]
    """What `search` tries, by name."""
    default_last: bool
    seed: int
    result: str
    parent_pid: int


@dataclass(kw_only=True)
class Outcome:
    """What one pass found; times in milliseconds, in the order of the runs."""

    error: str = ""
    hint: str = ""
    kind: str = "stage"
    candidate_ms: list[float] = field(default_factory=list)
    baseline_ms: list[float] = field(default_factory=list)
    candidate_cpu_ms: list[float] = field(default_factory=list)
    baseline_cpu_ms: list[float] = field(default_factory=list)
    """CPU time of the same runs, where it decides (`stagelib.timing`)."""
    warmup_runs: int = 0
    settled: bool = False
    finite: bool = True
    seconds: float = 0.0
    cold: bool = False
    """The kernel forgot the model's files before they were loaded."""
    load_s: float = 0.0
    first_inference_ms: float = 0.0
    batch_size: int = 0
    sequence_length: int = 0
    real_tokens: float = 0.0
    inputs_sha256: str = ""
    device_name: str = ""
    placement: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    baseline_settings: dict[str, Any] = field(default_factory=dict)
    trials: list[dict[str, Any]] = field(default_factory=list)
    """`stagelib.tuning.Trial` each; `settings` are then the default ones."""
    affinity: list[int] = field(default_factory=list)
    conditions: dict[str, Any] = field(default_factory=dict)
    """Clocks, temperatures and load when the last run had just ended: a process later, a GPU is idle again."""


def main(argv: list[str]) -> int:
    raw = json.loads(Path(argv[0]).read_text())
    spec = Spec(**{**raw, "cpus": tuple(raw["cpus"]) if raw["cpus"] else None})
    die_with_parent(spec.parent_pid)
    forbid_network()
    if spec.mode == "search":
        die_first()
    progress = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if spec.cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, spec.cpus)
    try:
        outcome = measure(spec, progress)
    except StageError as error:
        outcome = Outcome(error=error.message, hint=error.hint, kind=error.kind)
    # Whole or not at all: that it is there says that this process came to its end.
    unfinished = Path(f"{spec.result}.part")
    unfinished.write_text(json.dumps(asdict(outcome)))
    unfinished.replace(spec.result)
    return 0


def measure(spec: Spec, progress: IO[str]) -> Outcome:
    """Load the candidate, run it once, and do what the mode asks; each with what it took."""
    from stagelib import machine, timing
    from stagelib.runtimes.base import find_runtime, load_with, places

    outcome = Outcome(affinity=machine.allowed_cpus())
    inputs = _inputs(spec, outcome)
    if spec.mode == "search":
        _search(spec, outcome, inputs, _Ticker(progress))
        return outcome
    if spec.cold:
        outcome.cold = machine.forget_files(sorted(Path(spec.model).iterdir()))
    started = time.perf_counter()
    candidate = load_with(find_runtime(spec.runtime), Path(spec.model), spec.device, spec.threads, spec.options)
    outcome.load_s = time.perf_counter() - started
    outcome.placement, outcome.settings = places(candidate), dict(candidate.settings)
    outcome.device_name = candidate.device_name
    feeds = [_feed(batch, candidate.inputs) for batch in inputs]
    started = time.perf_counter()
    candidate.run(feeds[0])
    outcome.first_inference_ms = (time.perf_counter() - started) * 1000
    if spec.mode == "compare":
        _compare(spec, outcome, candidate, inputs, _Ticker(progress))
    elif spec.mode == "sustained":
        run = timing.runner(candidate, feeds)
        outcome.candidate_ms = timing.time_alone(run, DISTINCT_INPUTS, spec.sustained_seconds, _Ticker(progress))
    outcome.conditions = machine.conditions(outcome.affinity[-1])
    return outcome


def _compare(
    spec: Spec, outcome: Outcome, candidate: Session, inputs: list[dict[str, NDArray[Any]]], ticker: _Ticker
) -> None:
    """Warm both models up until latency settles, then time them in turn."""
    from stagelib import timing
    from stagelib.runtimes import onnxruntime

    feeds = [_feed(batch, candidate.inputs) for batch in inputs]
    runs = [timing.runner(candidate, feeds)]
    if spec.reference is not None:
        baseline = onnxruntime.load(Path(spec.reference), device=BASELINE_DEVICE, threads=spec.threads)
        outcome.baseline_settings = dict(baseline.settings)
        runs.append(timing.runner(baseline, [_feed(batch, baseline.inputs) for batch in inputs]))
    limits = timing.Limits(
        distinct_inputs=DISTINCT_INPUTS,
        block=spec.block,
        warmup_max=spec.warmup_max,
        min_runs=spec.min_runs,
        min_seconds=spec.min_seconds,
        max_seconds=spec.max_seconds,
        one_cpu=_one_cpu(spec),
        clock_step=timing.cpu_clock_step(),
        seed=spec.seed,
    )
    # A collection in the middle of a run would be charged to it.
    gc.collect()
    gc.disable()
    outcome.warmup_runs, outcome.settled = timing.warm_up(runs, limits)
    timed = timing.time_in_turn(runs, limits, ticker)
    gc.enable()
    outcome.seconds = timed.seconds
    outcome.candidate_ms, outcome.baseline_ms = timed.sides[0], timed.sides[1] if len(runs) > 1 else []
    outcome.candidate_cpu_ms, outcome.baseline_cpu_ms = [*timed.cpu_sides, []][:2]
    # Apart from the timed runs, where the look itself would be charged, and on each input that was timed.
    outcome.finite = all(_finite(candidate.run(batch)) for batch in feeds[: len(outcome.candidate_ms)])


def _search(spec: Spec, outcome: Outcome, inputs: list[dict[str, NDArray[Any]]], ticker: _Ticker) -> None:
    """Every session is warm once its answers were looked at."""
    from stagelib import timing, tuning
    from stagelib.runtimes.base import find_runtime, load_with

    limits = timing.Limits(
        distinct_inputs=DISTINCT_INPUTS,
        block=spec.block,
        warmup_max=0,
        min_runs=tuning.FEWEST_RUNS,
        min_seconds=spec.search_seconds,
        max_seconds=SEARCH_PATIENCE * spec.search_seconds,
        one_cpu=_one_cpu(spec),
        clock_step=timing.cpu_clock_step(),
        longest=1,
        seed=spec.seed,
    )
    runtime = find_runtime(spec.runtime)
    outcome.settings, trials = tuning.try_settings(
        lambda options: load_with(runtime, Path(spec.model), spec.device, spec.threads, options),
        spec.offered,
        lambda session: [_feed(batch, session.inputs) for batch in inputs],
        limits,
        ticker,
        default_last=spec.default_last,
    )
    outcome.trials = [asdict(trial) for trial in trials]


def _one_cpu(spec: Spec) -> bool:
    return len(spec.cpus or ()) == 1 and spec.threads == 1


class _Ticker:
    """Writes the share that is done, a few times a second."""

    def __init__(self, progress: IO[str]) -> None:
        self._progress = progress
        self._reported = time.perf_counter()

    def __call__(self, done: float) -> None:
        now = time.perf_counter()
        if now - self._reported >= PROGRESS_SECONDS:
            self._reported = now
            self._progress.write(f"{min(done, 1.0):.4f}\n")
            self._progress.flush()


def _inputs(spec: Spec, outcome: Outcome) -> list[dict[str, NDArray[Any]]]:
    """The batches that both models run, drawn from the evaluation split by the seed."""
    import numpy as np

    from stagelib import batches
    from stagelib.modelinfo import ModelInfo

    size, length = ModelInfo.read(Path(spec.model)).inputs[0].shape
    if not isinstance(size, int) or not isinstance(length, int):
        raise StageError("the model's input shape is free", hint="put fix_shape among the recipe's stages")
    rows = batches.read_rows(Path(spec.batches), batches.EVALUATION)
    order = np.random.default_rng(spec.seed).permutation(batches.count(rows))
    rows = {name: array[order] for name, array in rows.items()}
    chosen = [batches.take(rows, index * size, size) for index in range(DISTINCT_INPUTS)]
    joined = {name: np.concatenate([batch[name] for batch in chosen]) for name in rows}
    outcome.batch_size, outcome.sequence_length = size, length
    outcome.real_tokens = float(joined[batches.MASK].sum()) / DISTINCT_INPUTS
    outcome.inputs_sha256 = batches.digest(joined)
    return chosen


def _feed(batch: Mapping[str, NDArray[Any]], inputs: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    from stagelib import batches

    return batches.feed(batch, inputs)


def _finite(outputs: Mapping[str, NDArray[Any]]) -> bool:
    import numpy as np

    return all(bool(np.isfinite(array).all()) for array in outputs.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
