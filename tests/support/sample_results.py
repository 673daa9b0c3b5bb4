"""Results, their measurements' facts and their manifests, as a run of Portwright would have made them."""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

from portwright.results import RunResult

TAKEN = "2026-11-24T18:22:09+00:00"
CPU = "Intel(R) Xeon(R) Processor"


def result(**changes: Any) -> RunResult:
    """A passed run of the OpenVINO target on a CPU, with `changes` on top; nested keys as `model__source`."""
    value = copy.deepcopy(_BASE)
    for name, change in changes.items():
        *path, last = name.split("__")
        place = value
        for part in path:
            place = place[part]
        place[last] = change
    for stage in value["stages"]:
        stage["key"] = _digest(f"{value['recipe']} {stage['name']}")
    return RunResult.model_validate_json(json.dumps(value))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def gate(name: str, outcome: str, limit: float, found: float | None, reason: str) -> dict[str, Any]:
    """`outcome` is passed, failed or untold."""
    passed = {"passed": True, "failed": False, "untold": None}[outcome]
    return {"name": name, "passed": passed, "limit": limit, "found": found, "reason": reason}


def ratio(value: float) -> dict[str, Any]:
    """Latency of a ratio to a baseline of 28 ms, with an interval of one per cent either side."""
    return {
        "latency_ratio": value,
        "latency_ratio_interval": [round(value * 0.99, 6), round(value * 1.01, 6)],
        "latency_ms": latency(28 * value),
        "throughput": {
            "inferences_per_s": 1000 / (28 * value),
            "tokens_per_s": 128_000 / (28 * value),
            "real_tokens_per_s": 42_000 / (28 * value),
        },
    }


def latency(p50: float) -> dict[str, float]:
    """Ordered statistics about a median, milliseconds."""
    shares = {"min": 0.8, "mean": 1.05, "p50": 1.0, "p90": 1.2, "p99": 1.5, "max": 1.8, "std": 0.15}
    return {name: p50 * share for name, share in shares.items()}


_STAGES = ("read_data", "tokenize", "export", "quantize_nncf", "encapsulate", "package", "evaluate", "benchmark")
SETTINGS = ("settings", "session_settings")


def settings(chosen: str, threads: int = 1) -> dict[str, Any]:
    """What a search found, half the threads being faster where they are chosen."""
    default = {"device": "CPU", "INFERENCE_NUM_THREADS": threads}
    tried = {"name": "half the threads", "options": {"INFERENCE_NUM_THREADS": 1}, "ratio": 0.8, "runs": 20}
    wins = [tried | {"interval": [0.75, 0.85], "refused": ""}] if chosen != "default" else []
    options = {"INFERENCE_NUM_THREADS": 1} if wins else {}
    return {
        "threads": threads,
        "chosen": chosen,
        "options": options,
        "settings": default | options,
        "default": default,
        "tried": wins,
        "again": wins[0] if wins else None,
    }


_BASE: dict[str, Any] = {
    "version": 1,
    "recipe": "bert-base-portuguese-cased_context_ov_static",
    "recipe_digest": "f9" * 32,
    "target": "openvino",
    "engine": "venv",
    "status": "passed",
    "model": {"source": "/models/minilm", "digest": "95" * 32, "synthetic": False},
    "data": {"source": "texts.jsonl", "calibration_samples": 300, "evaluation_samples": 64, "disjoint": True},
    "executed": {"stage": "encapsulate", "format": "openvino", "deployable": True, "asked": ""},
    "executed_on": "cpu",
    "device": CPU,
    "measured": TAKEN,
    "stages": [
        {
            "name": name,
            "key": "",
            "toolchain": "exporter" if name in _STAGES[:3] else "openvino",
            "cached": name in _STAGES[:3],
            "seconds": seconds,
            "peak_memory_bytes": 350_000_000,
        }
        for name, seconds in zip(_STAGES, (0.1, 1.6, 9.0, 14.0, 0.4, 0.7, 2.2, 8.6), strict=True)
    ],
    **ratio(0.232),
    "baseline_latency_ms": latency(28.0),
    "all_threads": {
        "threads": 2,
        "latency_ms": latency(4.4),
        "baseline_latency_ms": latency(18.0),
        "latency_ratio": 0.245,
    },
    "verdict": "valid",
    "protocol": {
        "inputs_sha256": "1f" * 32,
        "evaluation_sha256": "2e" * 32,
        "batch_size": 1,
        "sequence_length": 128,
        "threads": [1, 2],
        "baseline": {"runtime": "onnxruntime", "device": "cpu", "threads": 1, "settings": {}},
    },
    "similarity": {
        "mean": 0.9977,
        "min": 0.9954,
        "samples": 64,
        "unrelated_mean": 0.126,
        "centred_mean": 0.9965,
        "nearest_agreement": 0.984,
    },
    "placement": {"runtime": "openvino", "nodes": [{"where": "CPU", "nodes": 159}]},
    "gates": [
        gate("similarity.mean", "passed", 0.99, 0.9977, "mean cosine over 64 texts is 0.9977, at least 0.99 is asked"),
        gate("placement", "passed", 1.0, 1.0, "100.0% of the graph is on CPU, at least 100.0% is asked"),
    ],
    "size_bytes": 24_729_033,
    "settings": {"device": "CPU", "INFERENCE_NUM_THREADS": 1},
    "session_settings": {"one_thread": settings("default"), "all_threads": settings("half the threads", threads=2)},
    "environment": {
        "cpu_model": CPU,
        "architecture": "x86_64",
        "isa_flags": ["avx2", "avx512_vnni"],
        "cpus_allowed": [0, 1],
        "governor": None,
        "load_average": [1.5, 0.8, 0.6],
        "threads": 1,
        "affinity": [1],
        "versions": {"openvino": "2026.4.1", "onnxruntime": "1.32.0"},
    },
}


def benchmark(found: RunResult) -> dict[str, Any]:
    value = found.model_dump(mode="json")
    protocol = value["protocol"] or {}
    names = ("latency_ms", "baseline_latency_ms", "latency_ratio", "latency_ratio_interval", "throughput", "verdict")
    return {
        **{
            name: value[name]
            for name in (*names, "verdict_reason", "all_threads", *SETTINGS, "environment", "executed_on")
        },
        "device_name": value["device"],
        **{name: protocol.get(name) for name in ("inputs_sha256", "batch_size", "sequence_length", "baseline")},
    }


def evaluation(found: RunResult) -> dict[str, Any]:
    digest = found.protocol.evaluation_sha256 if found.protocol else ""
    return {"similarity": found.similarity.model_dump(mode="json"), "inputs_sha256": digest}


def manifest(found: RunResult, text: str) -> dict[str, Any]:
    entry = {"sha256": _digest(text), "size": len(text)}
    return {
        "recipe": {"name": found.recipe, "model": {"source": "neuralmind/bert-base-portuguese-cased"}},
        "toolchains": {"exporter": "2c" * 32, "openvino": "3d" * 32},
        "versions": {"exporter": {"torch": "2.13.0+cpu"}, "openvino": {"openvino": "2026.4.1", "nncf": "3.4.0"}},
        "keys": {},
        "components": {},
        "files": {"result.json": entry, "deploy/model.bin": {"sha256": "9d" * 32, "size": 22_933_660}},
    }
