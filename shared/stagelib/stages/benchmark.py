"""Latency against ONNX Runtime fp32 of the same model: on one pinned thread, then on all CPUs."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stagelib.api import Call, Result, Stage, StageError

if TYPE_CHECKING:
    from stagelib.bench_worker import Outcome

WORKER = "stagelib.bench_worker"
PassName = Literal["one_thread", "all_threads"]


@dataclass(frozen=True, kw_only=True)
class Params:
    """How long to measure."""

    runtime: str
    device: str
    warmup_max: int = 100
    """Pairs of runs after which the warm-up ends even if latency has not settled."""
    min_runs: int = 30
    min_seconds: float = 2.0
    max_seconds: float = 120.0
    """Longest a pass may time pairs; with fewer than `min_runs` by then the verdict is `invalid`."""
    seed: int = 0
    """Draws the texts and the bootstrap."""

    def __post_init__(self) -> None:
        if self.min_runs < 2:  # noqa: PLR2004 - an interval needs two
            raise ValueError("min_runs must be at least 2")
        if self.warmup_max < 0:
            raise ValueError("warmup_max must be at least 0")
        if not 0 <= self.min_seconds <= self.max_seconds:
            raise ValueError("min_seconds must lie between 0 and max_seconds")


STAGE = Stage(
    summary="measure latency, interleaved with the fp32 baseline",
    inputs=("executable", "reference", "batches"),
    params=Params,
    needs=("onnxruntime", "numpy"),
    kind="measurement",
    runtime=True,
    internal=True,
)


def run(call: Call, params: Params) -> Result:
    """Two passes, each in a fresh process; StageError where a model can't be loaded or a pass dies.

    The planner always gives a reference. A bundle on its device may have none: then there is one pass, and no ratio.
    """
    from stagelib import machine
    from stagelib.runtimes.base import find_runtime

    allowed = machine.allowed_cpus()
    environment = machine.describe_machine()
    # The last CPU: interrupts and other people's processes tend to sit on the first.
    pinned = _pass(call, params, "one_thread", cpus=allowed[-1:], threads=1)
    everything = (
        _pass(call, params, "all_threads", cpus=None, threads=len(allowed)) if "reference" in call.inputs else None
    )
    environment |= {"load_average_after": machine.load_average(), "threads": 1, "affinity": pinned.affinity}
    runtime = find_runtime(params.runtime)
    environment["versions"] = machine.versions({*runtime.PACKAGES, *STAGE.needs})
    facts = _one_thread(pinned, params) | {
        "all_threads": _all_threads(everything, params, len(allowed)) if everything else None,
        "environment": environment,
        "executed_on": runtime.executed_on(params.device),
    }
    call.progress(1.0)
    samples = [*_samples("one_thread", pinned), *(_samples("all_threads", everything) if everything else ())]
    return Result(facts=facts, samples=samples)


def _pass(call: Call, params: Params, name: PassName, *, cpus: list[int] | None, threads: int) -> Outcome:
    """Run one pass in its own process, and wait for its lines without using the CPU."""
    from stagelib.bench_worker import Outcome, Spec

    result = call.scratch / f"{name}.result.json"
    spec = Spec(
        model=str(call.input("executable")),
        reference=str(call.input("reference")) if "reference" in call.inputs else None,
        batches=str(call.input("batches")),
        **asdict(params),
        cpus=tuple(cpus) if cpus else None,
        threads=threads,
        result=str(result),
        parent_pid=os.getpid(),
    )
    path = call.scratch / f"{name}.json"
    path.write_text(json.dumps(asdict(spec)))
    offset = 0.0 if name == "one_thread" else 0.5
    call.progress(offset, f"{name.replace('_', ' ')}: loading and warming up")
    command = [sys.executable, "-m", WORKER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment()) as worker:
        for line in worker.stdout or ():
            call.progress(offset + float(line) / 2, name.replace("_", " "))
    if not result.is_file():
        raise StageError(
            f"the benchmark's process ended with code {worker.returncode}", hint="its output is in the log"
        )
    outcome = Outcome(**json.loads(result.read_text()))
    if outcome.error:
        kind: Any = outcome.kind
        raise StageError(outcome.error, hint=outcome.hint, kind=kind)
    return outcome


def _environment() -> dict[str, str]:
    """The worker finds this library wherever the stage itself found it."""
    return dict(os.environ) | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}


def _one_thread(outcome: Outcome, params: Params) -> dict[str, Any]:
    from stagelib import measure
    from stagelib.bench_worker import BASELINE_DEVICE, BASELINE_RUNTIME

    candidate, baseline = outcome.candidate_ms, outcome.baseline_ms
    ratio = measure.median_ratio(candidate, baseline) if baseline else None
    interval = measure.ratio_interval(candidate, baseline, params.seed) if baseline else None
    evidence = measure.Evidence(
        runs=len(candidate),
        min_runs=params.min_runs,
        seconds=outcome.seconds,
        settled=outcome.settled,
        finite=outcome.finite,
        ratio=ratio or measure.summarize(candidate)["p50"],
        interval=interval or measure.median_interval(candidate, params.seed),
        what="ratio" if baseline else "median latency",
    )
    verdict, reason = measure.judge(evidence)
    return {
        "latency_ms": measure.summarize(candidate),
        "baseline_latency_ms": measure.summarize(baseline) if baseline else None,
        "latency_ratio": ratio,
        "latency_ratio_interval": list(interval) if interval else None,
        "throughput": _throughput(outcome),
        "verdict": verdict,
        "verdict_reason": reason,
        "load_s": round(outcome.load_s, 4),
        "first_inference_ms": round(outcome.first_inference_ms, 4),
        "runs": len(candidate),
        "warmup": {"runs": outcome.warmup_runs, "settled": outcome.settled},
        "batch_size": outcome.batch_size,
        "sequence_length": outcome.sequence_length,
        "inputs_sha256": outcome.inputs_sha256,
        "settings": outcome.settings,
        "baseline": {
            "runtime": BASELINE_RUNTIME,
            "device": BASELINE_DEVICE,
            "threads": 1,
            "settings": outcome.baseline_settings,
        }
        if baseline
        else None,
        "placement": outcome.placement,
    }


def _throughput(outcome: Outcome) -> dict[str, Any]:
    """Rates from the mean latency of calls that follow each other; an inference is one call, whatever its batch."""
    per_second = 1000 * len(outcome.candidate_ms) / sum(outcome.candidate_ms)
    padded = outcome.batch_size * outcome.sequence_length
    return {
        "inferences_per_s": round(per_second, 4),
        "tokens_per_s": round(per_second * padded, 4),
        "real_tokens_per_s": round(per_second * outcome.real_tokens, 4),
        "tokens_counted": "padded positions",
    }


def _all_threads(outcome: Outcome, params: Params, threads: int) -> dict[str, Any]:
    from stagelib import measure

    candidate, baseline = outcome.candidate_ms, outcome.baseline_ms
    return {
        "threads": threads,
        "latency_ms": measure.summarize(candidate),
        "baseline_latency_ms": measure.summarize(baseline),
        "latency_ratio": measure.median_ratio(candidate, baseline),
        "latency_ratio_interval": list(measure.ratio_interval(candidate, baseline, params.seed)),
        "throughput": _throughput(outcome),
        "runs": len(candidate),
        "warmup": {"runs": outcome.warmup_runs, "settled": outcome.settled},
    }


def _samples(name: PassName, outcome: Outcome) -> list[Mapping[str, Any]]:
    pairs = itertools.zip_longest(outcome.candidate_ms, outcome.baseline_ms)
    return [
        {"pass": name, "index": index, "candidate_ms": left, "baseline_ms": right}
        for index, (left, right) in enumerate(pairs)
    ]
