"""From what the benchmark's passes found to the facts and samples of a measurement."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stagelib import measure
from stagelib.bench_worker import BASELINE_DEVICE, BASELINE_RUNTIME, Outcome
from stagelib.tuning import DEFAULT, Trial

if TYPE_CHECKING:
    from stagelib.bench_passes import Search

PROTOCOL = 4
"""Figures of another protocol are not compared with these."""


def compared(outcome: Outcome, min_runs: int, seed: int, threads: int) -> dict[str, Any]:
    """Latency beside the baseline's, their ratio, and the verdict on it."""
    baseline = outcome.baseline_cpu_ms or outcome.baseline_ms
    candidate = outcome.candidate_cpu_ms or outcome.candidate_ms
    ratio = measure.median_ratio(candidate, baseline) if baseline else None
    interval = measure.ratio_interval(candidate, baseline, seed) if baseline else None
    evidence = measure.Evidence(
        runs=len(candidate),
        min_runs=min_runs,
        seconds=outcome.seconds,
        settled=outcome.settled,
        finite=outcome.finite,
        ratio=ratio or measure.summarize(candidate)["p50"],
        interval=interval or measure.median_interval(candidate, seed),
        what="ratio" if baseline else "median latency",
    )
    verdict, reason = measure.judge(evidence)
    return {
        **_latencies(outcome),
        "latency_ratio": ratio,
        "ratio_of": "CPU time" if outcome.baseline_cpu_ms else "time that passed",
        "latency_ratio_interval": list(interval) if interval else None,
        "verdict": verdict,
        "verdict_reason": reason,
        "baseline": _baseline(outcome, threads) if baseline else None,
        "device_name": outcome.device_name,
        "placement": outcome.placement,
        "settings": outcome.settings,
        "inputs_sha256": outcome.inputs_sha256,
        "batch_size": outcome.batch_size,
        "sequence_length": outcome.sequence_length,
    }


def cpu_share(outcome: Outcome) -> float | None:
    """Of the time that the runs took, the share in which they had the CPU; the rest was other processes'."""
    wall = sum(outcome.candidate_ms) + sum(outcome.baseline_ms)
    used = sum(outcome.candidate_cpu_ms) + sum(outcome.baseline_cpu_ms)
    return round(used / wall, 3) if outcome.candidate_cpu_ms else None


def all_threads(outcome: Outcome, seed: int, threads: int) -> dict[str, Any]:
    """The same on every CPU, for the record: the ratio that gates is the one of a pinned thread."""
    candidate, baseline = outcome.candidate_ms, outcome.baseline_ms
    return {
        **_latencies(outcome),
        "threads": threads,
        "latency_ratio": measure.median_ratio(candidate, baseline),
        "latency_ratio_interval": list(measure.ratio_interval(candidate, baseline, seed)),
    }


def first_inference(cold: Outcome, warm: Outcome) -> dict[str, Any]:
    """Loading and first inference in fresh processes; cold ones are null where the kernel couldn't be asked."""
    return {
        "cold_load_s": round(cold.load_s, 4) if cold.cold else None,
        "cold_ms": round(cold.first_inference_ms, 4) if cold.cold else None,
        "warm_load_s": round(warm.load_s, 4),
        "warm_ms": round(warm.first_inference_ms, 4),
    }


def sustained(outcome: Outcome) -> dict[str, Any]:
    """One inference after the other: medians of the first and the last tenth, and the rate of all."""
    times = outcome.candidate_ms
    tenth = max(len(times) // 10, 1)
    return {
        "seconds": round(sum(times) / 1000, 3),
        "first_ms": round(float(np.median(times[:tenth])), 4),
        "last_ms": round(float(np.median(times[-tenth:])), 4),
        "inferences_per_s": round(1000 * len(times) / sum(times), 4),
    }


def session_settings(search: Search, seed: int) -> dict[str, Any]:
    """What was chosen for one number of threads, and what else was tried; ratios are to the default settings' time."""
    return {
        "threads": search.threads,
        "chosen": search.chosen.name if search.chosen else DEFAULT,
        "options": dict(search.options),
        "settings": dict(search.settings),
        "default": dict(search.default or search.settings),
        "tried": [_trial(trial, seed) for trial in search.trials],
        "again": _trial(search.again, seed) if search.again else None,
    }


def _trial(trial: Trial, seed: int) -> dict[str, Any]:
    interval = trial.interval(seed)
    return {
        "name": trial.name,
        "options": dict(trial.options),
        "ratio": trial.ratio,
        "interval": list(interval) if interval else None,
        "runs": len(trial.candidate_ms),
        "refused": trial.refused,
    }


def samples(name: str, outcome: Outcome | Trial) -> list[dict[str, Any]]:
    """Every raw time of a pass, in milliseconds."""
    columns = ("candidate_ms", "baseline_ms", "candidate_cpu_ms", "baseline_cpu_ms")
    rows = itertools.zip_longest(*(getattr(outcome, column) for column in columns))
    return [{"pass": name, "index": index, **dict(zip(columns, row, strict=True))} for index, row in enumerate(rows)]


def search_samples(name: str, search: Search) -> list[dict[str, Any]]:
    """Every raw time of a search, setting by setting; the baseline is here the model with its default settings."""
    tried = [(f"settings_{name}", trial) for trial in search.trials]
    tried += [(f"settings_{name}_again", search.again)] if search.again else []
    return [{**line, "setting": trial.name} for what, trial in tried for line in samples(what, trial)]


def _latencies(outcome: Outcome) -> dict[str, Any]:
    baseline = outcome.baseline_ms
    return {
        "latency_ms": measure.summarize(outcome.candidate_ms),
        "baseline_latency_ms": measure.summarize(baseline) if baseline else None,
        "throughput": _throughput(outcome.candidate_ms, outcome),
        "runs": len(outcome.candidate_ms),
        "warmup": {"runs": outcome.warmup_runs, "settled": outcome.settled},
    }


def _throughput(times: Sequence[float], outcome: Outcome) -> dict[str, Any]:
    """Rates from the mean latency of calls that follow each other; an inference is one call, whatever its batch."""
    per_second = 1000 * len(times) / sum(times)
    padded = outcome.batch_size * outcome.sequence_length
    return {
        "inferences_per_s": round(per_second, 4),
        "tokens_per_s": round(per_second * padded, 4),
        "real_tokens_per_s": round(per_second * outcome.real_tokens, 4),
        "tokens_counted": "padded positions",
    }


def _baseline(outcome: Outcome, threads: int) -> dict[str, Any]:
    return {
        "runtime": BASELINE_RUNTIME,
        "device": BASELINE_DEVICE,
        "threads": threads,
        "settings": outcome.baseline_settings,
    }
