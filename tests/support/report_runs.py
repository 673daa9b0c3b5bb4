"""A host volume with runs of every kind, as Portwright would have left it: for reports, comparisons and histories."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from portwright.history import History, Measurement
from portwright.results import RunResult
from support.sample_results import benchmark, evaluation, gate, manifest, ratio, result

SCRIPT = "<script>alert('x')</script>$x_1$"
"""A name that must be harmless wherever it is shown."""

ACCURACY: dict[str, Any] = {
    "task": "XNLI en, entailment, neutral, contradiction",
    "fp32": 0.612,
    "optimized": 0.551,
    "drop": 0.061,
    "drop_interval": [0.032, 0.09],
    "mcnemar_p": 0.00021,
    "only_fp32": 47,
    "only_optimized": 18,
    "train_samples": 600,
    "samples": 300,
    "chance": 0.34,
}
AMD: dict[str, Any] = {
    "source": "the published table",
    "device": "AMD NPU",
    "latency_mean_ms": 11.78,
    "latency_min_ms": 12.24,
    "latency_max_ms": 11.40,
    "throughput_mean": 82.40,
}
QUALCOMM: dict[str, Any] = {
    "source": "the published table",
    "device": "Qualcomm NPU (QNN)",
    "latency_mean_ms": 14.71,
    "latency_min_ms": 16.29,
    "latency_max_ms": 13.98,
    "throughput_mean": 66.10,
    "throughput_max": 71.92,
    "throughput_min": 37.79,
    "note": "device not named beyond its kind",
}
EMULATION: dict[str, Any] = {
    "runtime": "qnn",
    "executed_on": "emulator",
    "variant": "sc8380xp.onnx",
    "similarity": {"mean": 0.9995, "min": 0.9991, "samples": 4},
    "placement": [{"where": "QNNExecutionProvider", "nodes": 1, "ops": {"EPContext": 1}}],
}


@dataclass(kw_only=True)
class Volume:
    """A host volume under construction."""

    root: Path
    random: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311 - noise for fixtures

    def add(self, model: str, found: RunResult, *, cosines: Sequence[float] | None = None, host: str = "vm") -> Path:
        """The view of a run, with its measurements in the history too."""
        folder = self.root / "runs" / model / found.recipe
        folder.mkdir(parents=True, exist_ok=True)
        scored = [0.9977 + 0.0001 * (index % 9) for index in range(64)] if cosines is None else list(cosines)
        evaluated = [{"index": index, "cosine": value, "tokens": 24} for index, value in enumerate(scored)]
        timed = [*self._pass(found, "one_thread", 1.0), *self._pass(found, "all_threads", 0.6)]
        samples = [{"stage": "evaluate", **line} for line in evaluated] + [
            {"stage": "benchmark", **line} for line in timed
        ]
        text = found.model_dump_json(indent=2) + "\n"
        (folder / "result.json").write_text(text)
        (folder / "measurements.jsonl").write_text("".join(json.dumps(line) + "\n" for line in samples))
        (folder / "manifest.json").write_text(json.dumps(manifest(found, text)))
        self.measure(found, host=host, evaluated=evaluated, timed=timed)
        return folder

    def measure(
        self,
        found: RunResult,
        *,
        host: str = "vm",
        evaluated: Sequence[Mapping[str, Any]] = (),
        timed: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """A line in the histories of the run's evaluation and benchmark."""
        keys = {stage.name: stage.key for stage in found.stages}
        run = hashlib.sha256(f"{found.measured}{host}".encode()).hexdigest()[:32]
        facts = {"evaluate": evaluation(found), "benchmark": benchmark(found)}
        for stage, samples in (("evaluate", evaluated), ("benchmark", timed)):
            History(self.root).append(
                Measurement(
                    taken=found.measured,
                    run=run,
                    key=keys[stage],
                    stage=stage,
                    engine=found.engine,
                    device="host-cpu" if stage == "evaluate" else f"{found.placement.runtime}-CPU",
                    host=host,
                    facts=facts[stage],
                    samples=tuple(dict(line) for line in samples),
                    versions={"python": "3.11.7"},
                    seconds=2.0,
                    peak_memory_bytes=1,
                )
            )

    def _pass(self, found: RunResult, name: str, scale: float) -> list[dict[str, Any]]:
        if found.latency_ms is None:
            return []
        fp32 = found.baseline_latency_ms
        return [
            {
                "pass": name,
                "index": index,
                "candidate_ms": scale * found.latency_ms.p50 * self.random.lognormvariate(0, 0.12),
                "baseline_ms": scale * fp32.p50 * self.random.lognormvariate(0, 0.1) if fp32 else None,
            }
            for index in range(40)
        ]


def fill(root: Path) -> Volume:
    """Runs on a device, a CPU, a stand-in and beside an emulator; failed, unstable, unreadable; names that bite."""
    volume = Volume(root=root)
    for day, value in ((20, 0.24), (22, 0.238)):
        volume.measure(result(measured=f"2026-11-{day}T08:00:00+00:00", **ratio(value)))
    volume.add("minilm", result())
    volume.add(
        "minilm",
        result(recipe="bert-base-portuguese-cased_qdq_cpu", target="cpu", size_bytes=70_100_000, **ratio(0.83)),
    )
    volume.add("minilm", _failed())
    volume.add("minilm", _compiled())
    volume.add("minilm", _device())
    volume.add("minilm", _unstable())
    hostile = {"recipe": f"{SCRIPT.replace('/', '')}_cpu", "target": SCRIPT, "model__source": f"/models/{SCRIPT}"}
    volume.add("hostile", result(model__synthetic=True, device=SCRIPT, **hostile))
    damaged = root / "runs" / "hostile" / "damaged"
    damaged.mkdir()
    (damaged / "result.json").write_text('{"version": 1, "recipe": "<b>')
    return volume


def _failed() -> RunResult:
    gates = [
        gate("similarity.mean", "failed", 0.99, 0.9421, "mean cosine over 64 texts is 0.9421, at least 0.99 is asked"),
        gate("placement", "untold", 1.0, 0.0, "CPUExecutionProvider stood in for VitisAIExecutionProvider"),
    ]
    layers = [
        {
            "tensor": f"/encoder/layer.{index}/output/dense/Add_output_0",
            "op": "Gemm",
            "error": 0.4 / (index + 1),
            "added": 0.3 / (index + 1),
        }
        for index in range(5)
    ]
    return result(
        recipe="bert-base-portuguese-cased_qdq_amd",
        target="vitisai",
        status="failed",
        gates=gates,
        layer_errors=layers,
        accuracy=ACCURACY,
        similarity__mean=0.9421,
        similarity__min=0.61,
        published=AMD,
        **ratio(0.92),
    )


def _compiled() -> RunResult:
    """A model compiled for an NPU, run in its emulator and, uncompiled, on the CPU in its place."""
    stand_in = "CPUExecutionProvider stood in for QNNExecutionProvider: no device was asked for"
    return result(
        recipe="bert-base-portuguese-cased_qdq_qnn",
        target="qnn",
        executed={"stage": "quantize_qdq", "format": "onnx", "deployable": False, "asked": ""},
        gates=[
            gate(
                "similarity.mean", "passed", 0.99, 0.9988, "mean cosine over 64 texts is 0.9988, at least 0.99 is asked"
            ),
            gate("placement.compiled", "passed", 1.0, 1.0, "100.0% of the graph is on QNNExecutionProvider"),
            gate("placement", "untold", 1.0, 0.0, stand_in),
        ],
        similarity__mean=0.9988,
        similarity__min=0.9961,
        placement={
            "runtime": "onnxruntime",
            "nodes": [{"where": "CPUExecutionProvider", "nodes": 580, "ops": {"QLinearMatMul": 72}}],
            "compiled": [{"where": "QNNExecutionProvider", "nodes": 1, "ops": {"EPContext": 1}, "compute": 1.0}],
            "compiled_by": "compile_qnn",
        },
        emulation=EMULATION,
        variants=[{"entry": "sc8380xp.onnx", "files": ["sc8380xp.onnx"], "built_for": {"soc_model": "60"}}],
        not_built=[{"what": "a binary for SM8850", "why": "the SDK is not in vendor/", "hint": "put it there"}],
        published=QUALCOMM,
        **ratio(0.9),
    )


def _device() -> RunResult:
    return result(
        recipe="bert-base-portuguese-cased_trtrtx",
        target="trt",
        executed_on="device",
        device="NVIDIA RTX 4070",
        executed={"stage": "compile_trt", "format": "tensorrt_rtx", "deployable": True, "asked": "gpu"},
        placement={"runtime": "tensorrt_rtx", "nodes": [{"where": "NvTensorRTRTXExecutionProvider", "nodes": 1}]},
        first_inference={"cold_load_s": 3.1, "cold_ms": 940.0, "warm_load_s": 0.4, "warm_ms": 3.1},
        sustained={"seconds": 60.0, "first_ms": 1.9, "last_ms": 2.2, "inferences_per_s": 470.0},
        size_bytes=223_000_000,
        **ratio(0.06),
    )


def _unstable() -> RunResult:
    reason = "the ratio's interval 0.839 to 1.089 is wider than 10% of it"
    changed = ratio(0.98) | {"latency_ratio_interval": [0.839, 1.089]}
    return result(
        recipe="bert-base-portuguese-cased_dml",
        target="dml",
        verdict="unstable",
        verdict_reason=reason,
        gates=[
            gate("placement", "untold", 1.0, 0.0, "162 nodes on CPUExecutionProvider stood in for DmlExecutionProvider")
        ],
        **changed,
    )
