"""One pass of a measurement in a process of its own: `python -m stagelib.bench_worker SPEC.json`.

A process of its own, because thread pools take the CPUs that the process may use when they start, and never ask again.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from stagelib import batches, measure
from stagelib.machine import describe_machine
from stagelib.processes import die_with_parent
from stagelib.runtimes.base import Session, find_runtime, places

if TYPE_CHECKING:
    from numpy.typing import NDArray

BASELINE_RUNTIME, BASELINE_DEVICE = "onnxruntime", "cpu"
MS = 1000.0
Timed = TypeVar("Timed")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What to measure. `cpus` are the CPUs this pass may use; its threads are as many."""

    model: str
    reference: str
    batches: str
    runtime: str
    device: str
    batch_size: int
    cpus: tuple[int, ...]
    warmup_max: int
    min_runs: int
    min_seconds: float
    max_seconds: float
    seed: int
    result: str
    parent_pid: int

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Spec:
        raw = json.loads(path.read_text())
        return cls(**{**raw, "cpus": tuple(raw["cpus"])})


def main(argv: list[str]) -> int:
    """Measure, and write what was found to the spec's `result`."""
    spec = Spec.read(Path(argv[0]))
    die_with_parent(spec.parent_pid)
    if hasattr(os, "sched_setaffinity"):
        # Before any session: its threads inherit this.
        os.sched_setaffinity(0, spec.cpus)
    Path(spec.result).write_text(json.dumps(run(spec)))
    return 0


def run(spec: Spec) -> dict[str, Any]:
    """Load both models, warm both up, and time them in turn on the same input."""
    threads = len(spec.cpus)
    rows = batches.take(batches.read_rows(Path(spec.batches), batches.EVALUATION), 0, spec.batch_size)
    baseline, _ = _timed(lambda: find_runtime(BASELINE_RUNTIME).load(
        Path(spec.reference), device=BASELINE_DEVICE, threads=threads))  # fmt: skip
    candidate, load_s = _timed(
        lambda: find_runtime(spec.runtime).load(Path(spec.model), device=spec.device, threads=threads)
    )
    feeds = [batches.feed(rows, session.inputs) for session in (candidate, baseline)]
    outputs, first_s = _timed(lambda: candidate.run(feeds[0]))
    finite = all(bool(np.isfinite(array).all()) for array in outputs.values() if array.dtype.kind == "f")
    settled = _warm_up((candidate, baseline), feeds, spec.warmup_max)
    candidate_ms, baseline_ms, seconds = _measure((candidate, baseline), feeds, spec)
    interval = measure.ratio_interval(candidate_ms, baseline_ms, spec.seed)
    ratio = measure.median_ratio(candidate_ms, baseline_ms)
    evidence = measure.Evidence(
        runs=len(candidate_ms),
        min_runs=spec.min_runs,
        seconds=seconds,
        settled=settled,
        finite=finite,
        ratio=ratio,
        interval=interval,
    )
    verdict, reason = measure.judge(evidence)
    return {
        "threads": threads,
        "cpus": list(spec.cpus),
        "latency_ms": measure.summarize(candidate_ms),
        "baseline_latency_ms": measure.summarize(baseline_ms),
        "latency_ratio": ratio,
        "latency_ratio_interval": list(interval),
        "verdict": verdict,
        "verdict_reason": reason,
        "load_s": round(load_s, 4),
        "first_inference_ms": round(first_s * MS, 4),
        "real_tokens": int(rows[batches.MASK].sum()),
        "input_digest": batches.digest(rows),
        "placement": places(candidate),
        "settings": dict(candidate.settings),
        "baseline_settings": dict(baseline.settings),
        "environment": describe_machine(),
        "samples": [list(pair) for pair in zip(candidate_ms, baseline_ms, strict=True)],
    }


def _warm_up(sessions: tuple[Session, Session], feeds: list[dict[str, NDArray[np.int64]]], most: int) -> bool:
    """Run both in turn until both are steady, at most `most` times; whether they were."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(most):
        for session, feed, found in zip(sessions, feeds, times, strict=True):
            found.append(_run_ms(session, feed))
        if all(measure.settled(found) for found in times):
            return True
    return False


def _measure(
    sessions: tuple[Session, Session], feeds: list[dict[str, NDArray[np.int64]]], spec: Spec
) -> tuple[list[float], list[float], float]:
    """Milliseconds of candidate and baseline, run in turn, and how long it all took in seconds.

    Who goes first alternates, so that neither always finds the caches as the other left them.
    """
    found: tuple[list[float], list[float]] = ([], [])
    started = time.perf_counter()
    while True:
        turn = (0, 1) if len(found[0]) % 2 == 0 else (1, 0)
        for index in turn:
            found[index].append(round(_run_ms(sessions[index], feeds[index]), 6))
        seconds = time.perf_counter() - started
        if (len(found[0]) >= spec.min_runs and seconds >= spec.min_seconds) or seconds >= spec.max_seconds:
            return *found, seconds


def _run_ms(session: Session, feed: Mapping[str, NDArray[np.int64]]) -> float:
    started = time.perf_counter_ns()
    session.run(feed)
    return (time.perf_counter_ns() - started) / 1e6


def _timed(action: Callable[[], Timed]) -> tuple[Timed, float]:
    started = time.perf_counter()
    return action(), time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
