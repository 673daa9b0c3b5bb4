"""From outcomes to `result.json` and to the lines a person reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portwright.gates import Findings, computes_worse, failed, judge
from portwright.likeness import protocol_of
from portwright.outcomes import Outcomes
from portwright.result_parts import (
    accuracy_of,
    checked_of,
    emulation_of,
    executed_of,
    half_range_of,
    interval,
    layer_errors_of,
    not_built_of,
    only,
    placement_of,
    session_settings_of,
    similarity_of,
)
from portwright.results import (
    AllThreads,
    DataRecord,
    FirstInference,
    LatencyMs,
    ModelRecord,
    RunResult,
    StageRecord,
    Sustained,
    Throughput,
)
from portwright.shelf import Done
from stagelib.limits import unsure_up_to


def build_result(outcomes: Outcomes) -> RunResult:
    """`result.json` of a plan whose every call has an outcome."""
    plan, bench = outcomes.plan, outcomes.benchmark.facts
    recipe = plan.recipe
    measurement, found = outcomes.benchmark.measurement, _findings(outcomes)
    assert measurement is not None
    gates = judge(recipe.gates, found)
    return RunResult(
        recipe=recipe.name,
        recipe_digest=recipe.digest,
        target=plan.target.name,
        engine=plan.engine,
        status="failed" if failed(gates) else "passed",
        model=ModelRecord(source=plan.model.text, digest=outcomes.model_digest(), synthetic=plan.model.synthetic),
        data=_data(outcomes),
        executed=executed_of(outcomes),
        executed_on=bench["executed_on"],
        device=str(bench["device_name"]),
        measured=measurement.taken,
        stages=tuple(_stage(item) for item in outcomes.all),
        **_measured(bench),
        protocol=protocol_of(bench, outcomes.evaluate.facts),
        similarity=found.similarity,
        accuracy=found.accuracy,
        # Layers found for another recipe's gates say nothing of a size or a latency.
        layer_errors=layer_errors_of(outcomes) if computes_worse(gates) else (),
        published=plan.target.file.published,
        placement=found.placement,
        emulation=found.emulation,
        variants=tuple(variant for item in outcomes.chain for variant in item.facts.get("variants", ())),
        half_range=half_range_of(outcomes),
        checked=checked_of(outcomes),
        not_built=not_built_of(outcomes),
        gates=gates,
        size_bytes=found.size_bytes,
        settings=bench["settings"],
        session_settings=session_settings_of(bench),
        environment=bench["environment"],
    )


def _findings(outcomes: Outcomes) -> Findings:
    """What the gates judge."""
    plan, bench, artifact = outcomes.plan, outcomes.benchmark.facts, outcomes.package.artifact
    assert artifact is not None
    return Findings(
        similarity=similarity_of(outcomes.evaluate),
        placement=placement_of(outcomes),
        executed_on=bench["executed_on"],
        asked=plan.execution.asked,
        emulation=emulation_of(outcomes),
        accuracy=accuracy_of(outcomes.evaluate),
        pairs_asked=plan.recipe.accuracy.samples if plan.recipe.accuracy else 0,
        without_pairs=outcomes.batches.facts.get("without_pairs", False),
        latency_ratio=None if bench["verdict"] == "invalid" else bench["latency_ratio"],
        latency_up_to=unsure_up_to(bench["verdict"], bench["latency_ratio_interval"]),
        size_bytes=sum(entry.size for entry in artifact.manifest.files.values()),
    )


def _measured(bench: Mapping[str, Any]) -> dict[str, Any]:
    """The times, as the result's fields."""
    throughput, sustained = bench["throughput"], bench["sustained"]
    return {
        "latency_ms": _latency(bench["latency_ms"]),
        "throughput": Throughput.model_validate(only(throughput, Throughput)) if throughput else None,
        "baseline_latency_ms": _latency(bench["baseline_latency_ms"]),
        "latency_ratio": bench["latency_ratio"],
        "latency_ratio_interval": interval(bench["latency_ratio_interval"]),
        "all_threads": _all_threads(bench["all_threads"]),
        "first_inference": FirstInference.model_validate(bench["first_inference"]),
        "sustained": Sustained.model_validate(sustained) if sustained else None,
        "verdict": bench["verdict"],
        "verdict_reason": bench["verdict_reason"],
    }


def about(outcomes: Outcomes) -> dict[str, Any]:
    """What `manifest.json` says beside its files: tool versions, toolchains, recipe, its stages that ran, keys."""
    plan = outcomes.plan
    return {
        "recipe": plan.recipe.model_dump(mode="json", by_alias=True),
        "model": {"source": plan.model.text, "digest": outcomes.model_digest()},
        "stages": [call.stage for call in plan.chain],
        "engine": plan.engine,
        "toolchains": {call.toolchain.name: call.toolchain.digest(plan.engine) for call in plan.calls},
        "versions": {item.call.toolchain.name: {} for item in outcomes.all} | _versions(outcomes),
        "keys": {f"{index:02d} {item.call.stage}": item.call.key for index, item in enumerate(outcomes.all, start=1)},
        "components": {item.call.key: dict(item.call.components) for item in outcomes.all},
    }


def _versions(outcomes: Outcomes) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for item in outcomes.all:
        found.setdefault(item.call.toolchain.name, {}).update(item.versions)
    return found


def wants_diagnosis(result: RunResult) -> bool:
    """Whether a gate failed for what the model computes, so that it helps to know which layers lose most."""
    return computes_worse(result.gates)


def _stage(item: Done) -> StageRecord:
    return StageRecord(
        name=item.call.stage,
        key=item.call.key,
        toolchain=item.call.toolchain.name,
        cached=item.cached,
        seconds=item.seconds,
        peak_memory_bytes=item.peak_memory_bytes,
    )


def _data(outcomes: Outcomes) -> DataRecord:
    plan, split = outcomes.plan, outcomes.batches.facts
    spec = plan.recipe.data[plan.recipe.evaluation.data]
    hub = f"{spec.dataset}@{spec.revision}/{spec.subset or 'default'}/{spec.split}"
    return DataRecord(
        source=str(plan.local_data.path) if plan.local_data else hub,
        calibration_samples=split["used"]["calibration"],
        evaluation_samples=split["used"]["evaluation"],
        disjoint=split["disjoint"],
        note=split["note"],
    )


def _latency(facts: Mapping[str, Any] | None) -> LatencyMs | None:
    return LatencyMs.model_validate(only(facts, LatencyMs)) if facts else None


def _all_threads(facts: Mapping[str, Any] | None) -> AllThreads | None:
    if not facts:
        return None
    latency, baseline = _latency(facts["latency_ms"]), _latency(facts["baseline_latency_ms"])
    assert latency is not None
    assert baseline is not None
    return AllThreads(
        threads=facts["threads"], latency_ms=latency, baseline_latency_ms=baseline, latency_ratio=facts["latency_ratio"]
    )
