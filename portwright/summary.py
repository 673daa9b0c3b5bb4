"""From outcomes to `result.json` and to the lines a person reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from portwright.calls import RecipePlan
from portwright.executor import Done
from portwright.gates import Findings, failed, judge
from portwright.history import sample_lines
from portwright.likeness import protocol_of
from portwright.results import (
    Accuracy,
    AllThreads,
    DataRecord,
    Emulation,
    Executed,
    FirstInference,
    LatencyMs,
    LayerError,
    ModelRecord,
    NotBuilt,
    Placed,
    Placement,
    RunResult,
    Similarity,
    StageRecord,
    Sustained,
    Throughput,
)


class Outcomes:
    """All outcomes of one plan, found by call."""

    def __init__(self, plan: RecipePlan, done: Sequence[Done]) -> None:
        self.plan = plan
        self.all = list(done)
        self._by_key = {item.call.key: item for item in done}
        self.package = self._by_key[plan.package.key]
        self.benchmark = self._by_key[plan.benchmark.key]
        self.evaluate = self._by_key[plan.evaluate.key]
        self.emulate = self._by_key[plan.emulate.key] if plan.emulate else None
        self.diagnosis: Done | None = None
        """Set for a model that failed."""
        self.chain = [self._by_key[call.key] for call in plan.chain]
        self.batches = self._by_key[plan.batches.key]

    @property
    def nothing_ran(self) -> bool:
        return all(item.cached for item in self.all)

    def model_digest(self) -> str:
        """Digest of the model's content, known once it is fetched."""
        source = self.plan.source
        if source.local is not None:
            return source.local.digest
        assert source.call is not None
        artifact = self._by_key[source.call.key].artifact
        assert artifact is not None
        return artifact.manifest.content_digest

    def samples(self) -> list[Mapping[str, Any]]:
        """Raw samples of every measurement of the plan."""
        return [line for item in self.all if item.measurement for line in sample_lines(item.measurement)]


def build_result(outcomes: Outcomes) -> RunResult:
    """`result.json` of a plan whose every call has an outcome."""
    plan, bench = outcomes.plan, outcomes.benchmark.facts
    recipe = plan.recipe
    measurement, artifact = outcomes.benchmark.measurement, outcomes.package.artifact
    assert measurement is not None
    assert artifact is not None
    found = Findings(
        similarity=_similarity(outcomes.evaluate),
        placement=_placement(outcomes),
        executed_on=bench["executed_on"],
        asked=plan.execution.asked,
        emulation=_emulation(outcomes),
        accuracy=_accuracy(outcomes.evaluate),
        without_pairs=outcomes.batches.facts.get("without_pairs", False),
        latency_ratio=None if bench["verdict"] == "invalid" else bench["latency_ratio"],
        size_bytes=sum(entry.size for entry in artifact.manifest.files.values()),
    )
    gates = judge(recipe.gates, found)
    return RunResult(
        recipe=recipe.name,
        recipe_digest=recipe.digest,
        target=plan.target.name,
        engine=plan.engine,
        status="failed" if failed(gates) else "passed",
        model=ModelRecord(source=plan.model.text, digest=outcomes.model_digest(), synthetic=plan.model.synthetic),
        data=_data(outcomes),
        executed=_executed(outcomes),
        executed_on=bench["executed_on"],
        device=str(bench["environment"].get("cpu_model", "")),
        measured=measurement.taken,
        stages=tuple(_stage(item) for item in outcomes.all),
        latency_ms=_latency(bench["latency_ms"]),
        throughput=Throughput.model_validate(_only(bench["throughput"], Throughput)) if bench["throughput"] else None,
        baseline_latency_ms=_latency(bench["baseline_latency_ms"]),
        latency_ratio=bench["latency_ratio"],
        latency_ratio_interval=_interval(bench["latency_ratio_interval"]),
        all_threads=_all_threads(bench["all_threads"]),
        first_inference=FirstInference.model_validate(bench["first_inference"]),
        sustained=Sustained.model_validate(bench["sustained"]) if bench["sustained"] else None,
        verdict=bench["verdict"],
        verdict_reason=bench["verdict_reason"],
        protocol=protocol_of(bench, outcomes.evaluate.facts),
        similarity=found.similarity,
        accuracy=found.accuracy,
        layer_errors=_layer_errors(outcomes),
        published=plan.target.file.published,
        placement=found.placement,
        emulation=found.emulation,
        variants=tuple(variant for item in outcomes.chain for variant in item.facts.get("variants", ())),
        not_built=_not_built(outcomes),
        gates=gates,
        size_bytes=found.size_bytes,
        settings=bench["settings"],
        environment=bench["environment"],
    )


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


def _similarity(item: Done) -> Similarity:
    cosines = {name: _finite(value) for name, value in item.facts["similarity"].items()}
    return Similarity.model_validate(_only(cosines, Similarity))


def _accuracy(item: Done) -> Accuracy | None:
    facts = item.facts.get("accuracy")
    return Accuracy.model_validate({**facts, "drop_interval": _interval(facts["drop_interval"])}) if facts else None


def _placement(outcomes: Outcomes) -> Placement:
    """Where the executed model ran, and where the last stage that places nodes put those of the one that ships."""
    compilers = [item for item in outcomes.chain if item.facts.get("placement")]
    return Placement(
        runtime=outcomes.plan.execution.runtime,
        nodes=_placed(outcomes.benchmark.facts["placement"]),
        compiled=_placed(compilers[-1].facts["placement"]) if compilers else (),
        compiled_by=compilers[-1].call.stage if compilers else "",
    )


def _placed(parts: Sequence[Mapping[str, Any]]) -> tuple[Placed, ...]:
    return tuple(Placed.model_validate(part) for part in parts)


def _emulation(outcomes: Outcomes) -> Emulation | None:
    if outcomes.emulate is None:
        return None
    facts = outcomes.emulate.facts
    return Emulation(
        runtime=str(outcomes.emulate.call.params["runtime"]),
        variant=facts["variant"],
        similarity=_similarity(outcomes.emulate),
        placement=_placed(facts["placement"]),
    )


def _executed(outcomes: Outcomes) -> Executed:
    plan = outcomes.plan
    return Executed(
        stage=plan.executed.stage,
        format=plan.executed_format,
        deployable=plan.executed.key == plan.chain[-1].key,
        asked=plan.execution.asked,
    )


def _layer_errors(outcomes: Outcomes) -> tuple[LayerError, ...]:
    facts = outcomes.diagnosis.facts["layer_errors"] if outcomes.diagnosis else ()
    return tuple(LayerError.model_validate(one) for one in facts)


def wants_diagnosis(result: RunResult) -> bool:
    """Whether a gate failed for what the model computes, so that it helps to know which layers lose most."""
    return any(gate.name.startswith(("similarity", "accuracy")) for gate in failed(result.gates))


def _not_built(outcomes: Outcomes) -> tuple[NotBuilt, ...]:
    """What the plan left out for want of a vendor's archive, and what stages say they couldn't make."""
    left_out = [
        NotBuilt(
            what=archive.gives,
            why=f"{archive.title} {archive.version} ({archive.file}) is not in vendor/",
            hint=f"{archive.source}. {archive.licence}",
        )
        for archive in outcomes.plan.left_out
    ]
    said = [NotBuilt.model_validate(item) for done in outcomes.chain for item in done.facts.get("not_built", ())]
    return (*left_out, *said)


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
    return LatencyMs.model_validate(_only(facts, LatencyMs)) if facts else None


def _all_threads(facts: Mapping[str, Any] | None) -> AllThreads | None:
    if not facts:
        return None
    latency, baseline = _latency(facts["latency_ms"]), _latency(facts["baseline_latency_ms"])
    assert latency is not None
    assert baseline is not None
    return AllThreads(
        threads=facts["threads"], latency_ms=latency, baseline_latency_ms=baseline, latency_ratio=facts["latency_ratio"]
    )


def _interval(values: Sequence[float] | None) -> tuple[float, float] | None:
    return (values[0], values[1]) if values else None


def _finite(value: Any) -> Any:
    """JSON has no NaN: what is not a number is not there."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _only(facts: Mapping[str, Any], model: type[Any]) -> dict[str, Any]:
    """The facts that the result has a place for; the rest stays in the measurement's history."""
    return {name: value for name, value in facts.items() if name in model.model_fields}
