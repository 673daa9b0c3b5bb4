"""`benchmark`: latency of the deployable and of the fp32 baseline, run in turn in one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stagelib.api import Call, Result, Stage, StageError

WORKER = "stagelib.bench_worker"
ALLOWANCE_S = 600.0
MS_PER_S = 1000.0


@dataclass(frozen=True, kw_only=True)
class Params:
    """The protocol. One pinned thread is the figure that gates; all threads stand beside it."""

    runtime: str
    device: str
    batch_size: int
    sequence_length: int
    warmup_max: int = 60
    """Runs of each model before it counts as unsteady."""
    min_runs: int = 30
    min_seconds: float = 2.0
    max_seconds: float = 120.0
    all_threads: bool = True
    seed: int = 0
    """For the bootstrap of the interval."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_runs <= 100_000:  # noqa: PLR2004 - a sensible range
            raise ValueError("min_runs must be 1 to 100000")
        if not 0 < self.min_seconds <= self.max_seconds:
            raise ValueError("min_seconds must be above 0 and at most max_seconds")
        if self.warmup_max < 1:
            raise ValueError("warmup_max must be at least 1")


STAGE = Stage(
    summary="measure latency against fp32, run in turn",
    inputs=("model", "reference", "batches"),
    params=Params,
    needs=("onnxruntime", "numpy"),
    kind="measurement",
    shaped=True,
    runtime=True,
    internal=True,
)


def run(call: Call, params: Params) -> Result:
    """Measure on one pinned CPU, then on all of them; every raw pair of times is a sample, in milliseconds."""
    from stagelib.machine import allowed_cpus
    from stagelib.runtimes.base import find_runtime

    cpus = allowed_cpus()
    passes: dict[str, Sequence[int]] = {"one_thread": cpus[-1:]}
    if params.all_threads and len(cpus) > 1:
        passes["all_threads"] = cpus
    found: dict[str, dict[str, Any]] = {}
    for number, (name, chosen) in enumerate(passes.items()):
        call.progress(number / len(passes), f"measuring on {len(chosen)} of {len(cpus)} CPUs")
        found[name] = _pass(call, params, name, chosen)
    one = found["one_thread"]
    facts = {
        **{name: one[name] for name in _SHOWN},
        "throughput": _throughput(one, params),
        "all_threads": _all_threads(found.get("all_threads")),
        "environment": {**one["environment"], "threads": one["threads"], "affinity": one["cpus"]},
        "baseline": {"runtime": "onnxruntime", "device": "cpu", "settings": one["baseline_settings"]},
        "executed_on": find_runtime(params.runtime).executed_on(params.device),
    }
    return Result(facts=facts, samples=_samples(found))


_SHOWN = (
    "latency_ms",
    "baseline_latency_ms",
    "latency_ratio",
    "latency_ratio_interval",
    "verdict",
    "verdict_reason",
    "load_s",
    "first_inference_ms",
    "input_digest",
    "placement",
    "settings",
)


def _pass(call: Call, params: Params, name: str, cpus: Sequence[int]) -> dict[str, Any]:
    """One worker process, waited for without spinning."""
    from stagelib.bench_worker import Spec

    spec, result = call.scratch / f"{name}.json", call.scratch / f"{name}.result.json"
    Spec(
        model=str(call.input("model")),
        reference=str(call.input("reference")),
        batches=str(call.input("batches")),
        runtime=params.runtime,
        device=params.device,
        batch_size=params.batch_size,
        cpus=tuple(cpus),
        warmup_max=params.warmup_max,
        min_runs=params.min_runs,
        min_seconds=params.min_seconds,
        max_seconds=params.max_seconds,
        seed=params.seed,
        result=str(result),
        parent_pid=os.getpid(),
    ).write(spec)
    timeout = 2 * params.max_seconds + ALLOWANCE_S
    done = subprocess.run(
        [sys.executable, "-m", WORKER, str(spec)], check=False, timeout=timeout, capture_output=True, text=True
    )
    sys.stderr.write(done.stdout + done.stderr)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise StageError(f"measuring on {len(cpus)} CPUs failed: {last}")
    measured: dict[str, Any] = json.loads(Path(result).read_text())
    return measured


def _throughput(one: Mapping[str, Any], params: Params) -> dict[str, Any]:
    """One inference after the other: what the mean latency means per second."""
    per_second = MS_PER_S / one["latency_ms"]["mean"]
    return {
        "inferences_per_s": per_second,
        "tokens_per_s": per_second * params.batch_size * params.sequence_length,
        "tokens_counted": "padded positions",
        "real_tokens_per_s": per_second * one["real_tokens"],
    }


def _all_threads(measured: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if measured is None:
        return None
    return {
        name: measured[name] for name in ("threads", "latency_ms", "baseline_latency_ms", "latency_ratio", "verdict")
    }


def _samples(found: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"pass": name, "index": index, "candidate_ms": candidate, "baseline_ms": baseline}
        for name, measured in found.items()
        for index, (candidate, baseline) in enumerate(measured["samples"])
    ]
