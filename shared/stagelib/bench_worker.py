"""One pass of the benchmark, in a process of its own: `python -m stagelib.bench_worker SPEC.json`.

Candidate and fp32 baseline alternate on the same inputs, so that whatever slows the machine slows both of a pair. Where
no baseline is at hand (a bundle on its device may bring none) the candidate runs alone. The
affinity is set before anything is imported that starts threads. Standard output carries one progress line a step and
nothing else; the outcome is written to the file that the specification names.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from stagelib.api import StageError
from stagelib.processes import die_with_parent, forbid_network

if TYPE_CHECKING:
    from numpy.typing import NDArray

BASELINE_RUNTIME, BASELINE_DEVICE = "onnxruntime", "cpu"
DISTINCT_INPUTS = 8
PROGRESS_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What to measure. `cpus` are those this process may use; `threads` what each runtime is told."""

    model: str
    reference: str | None
    batches: str
    runtime: str
    device: str
    cpus: tuple[int, ...] | None
    threads: int
    warmup_max: int
    min_runs: int
    min_seconds: float
    max_seconds: float
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
    warmup_runs: int = 0
    settled: bool = False
    finite: bool = True
    seconds: float = 0.0
    load_s: float = 0.0
    first_inference_ms: float = 0.0
    batch_size: int = 0
    sequence_length: int = 0
    real_tokens: float = 0.0
    inputs_sha256: str = ""
    placement: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    baseline_settings: dict[str, Any] = field(default_factory=dict)
    affinity: list[int] = field(default_factory=list)


def main(argv: list[str]) -> int:
    raw = json.loads(Path(argv[0]).read_text())
    spec = Spec(**{**raw, "cpus": tuple(raw["cpus"]) if raw["cpus"] else None})
    die_with_parent(spec.parent_pid)
    forbid_network()
    progress = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if spec.cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, spec.cpus)
    try:
        outcome = measure(spec, progress)
    except StageError as error:
        outcome = Outcome(error=error.message, hint=error.hint, kind=error.kind)
    Path(spec.result).write_text(json.dumps(asdict(outcome)))
    return 0


def measure(spec: Spec, progress: IO[str]) -> Outcome:
    """Load both models, warm up until latency settles, then time pairs until enough runs and seconds are had."""
    from stagelib import machine
    from stagelib.runtimes import onnxruntime
    from stagelib.runtimes.base import find_runtime, places

    outcome = Outcome(affinity=machine.allowed_cpus())
    inputs = _inputs(spec, outcome)
    started = time.perf_counter()
    candidate = find_runtime(spec.runtime).load(Path(spec.model), device=spec.device, threads=spec.threads)
    outcome.load_s = time.perf_counter() - started
    outcome.placement, outcome.settings = places(candidate), dict(candidate.settings)
    feeds = [_feed(batch, candidate.inputs) for batch in inputs]
    started = time.perf_counter()
    candidate.run(feeds[0])
    outcome.first_inference_ms = (time.perf_counter() - started) * 1000
    runs: list[Run] = [lambda index: candidate.run(feeds[index])]
    if spec.reference is not None:
        baseline = onnxruntime.load(Path(spec.reference), device=BASELINE_DEVICE, threads=spec.threads)
        outcome.baseline_settings = dict(baseline.settings)
        baseline_feeds = [_feed(batch, baseline.inputs) for batch in inputs]
        runs.append(lambda index: baseline.run(baseline_feeds[index]))
    # A collection in the middle of a run would be charged to it.
    gc.collect()
    gc.disable()
    _warm_up(spec, runs, outcome)
    _time_pairs(spec, runs, outcome, progress)
    gc.enable()
    # Apart from the timed runs, where the look itself would be charged, and on each input that was timed.
    outcome.finite = all(_finite(candidate.run(batch)) for batch in feeds[: len(outcome.candidate_ms)])
    return outcome


Run = Callable[[int], object]


def _warm_up(spec: Spec, runs: Sequence[Run], outcome: Outcome) -> None:
    from stagelib.measure import settled

    times: list[list[float]] = [[] for _ in runs]
    deadline = time.perf_counter() + spec.max_seconds / 2
    while outcome.warmup_runs < spec.warmup_max and time.perf_counter() < deadline:
        for side, value in enumerate(_in_turn(runs, outcome.warmup_runs)):
            times[side].append(value)
        outcome.warmup_runs += 1
        if all(settled(side) for side in times):
            outcome.settled = True
            return


def _time_pairs(spec: Spec, runs: Sequence[Run], outcome: Outcome, progress: IO[str]) -> None:
    started = reported = time.perf_counter()
    while True:
        candidate, *baseline = _in_turn(runs, len(outcome.candidate_ms))
        outcome.candidate_ms.append(candidate)
        outcome.baseline_ms += baseline
        now = time.perf_counter()
        outcome.seconds = now - started
        enough = min(len(outcome.candidate_ms) / spec.min_runs, outcome.seconds / max(spec.min_seconds, 1e-9))
        if enough >= 1 or outcome.seconds >= spec.max_seconds:
            return
        if now - reported >= PROGRESS_SECONDS:
            reported = now
            progress.write(f"{max(enough, outcome.seconds / spec.max_seconds):.4f}\n")
            progress.flush()


def _in_turn(runs: Sequence[Run], index: int) -> list[float]:
    """Milliseconds of candidate and baseline on the same input. Who goes first alternates.

    The second of a pair finds the caches as the first left them.
    """
    times = [0.0] * len(runs)
    for side in range(len(runs)) if index % 2 == 0 else reversed(range(len(runs))):
        started = time.perf_counter_ns()
        runs[side](index % DISTINCT_INPUTS)
        times[side] = (time.perf_counter_ns() - started) / 1e6
    return times


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
