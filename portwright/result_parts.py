"""From a plan's outcomes to the parts of a result: each reads the facts of the stages that know."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from portwright.outcomes import Outcomes
from portwright.results import (
    Accuracy,
    Checked,
    Emulation,
    Executed,
    HalfRange,
    LargestTensor,
    LayerError,
    NotBuilt,
    Placed,
    Placement,
    SessionSettings,
    SettingTried,
    Similarity,
)
from portwright.shelf import Done


def similarity_of(item: Done) -> Similarity:
    cosines = {name: _finite(value) for name, value in item.facts["similarity"].items()}
    return Similarity.model_validate(only(cosines, Similarity))


def accuracy_of(item: Done) -> Accuracy | None:
    facts = item.facts.get("accuracy")
    return Accuracy.model_validate({**facts, "drop_interval": interval(facts["drop_interval"])}) if facts else None


def placement_of(outcomes: Outcomes) -> Placement:
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


def session_settings_of(bench: Mapping[str, Any]) -> dict[str, SessionSettings]:
    """What the benchmark found for each number of threads; empty for a measurement from before it looked."""
    return {name: _session_settings(one) for name, one in bench.get("session_settings", {}).items()}


def _session_settings(facts: Mapping[str, Any]) -> SessionSettings:
    again = _tried(facts["again"]) if facts["again"] else None
    return SessionSettings.model_validate({**facts, "tried": tuple(map(_tried, facts["tried"])), "again": again})


def _tried(facts: Mapping[str, Any]) -> SettingTried:
    return SettingTried.model_validate({**facts, "interval": interval(facts["interval"])})


def emulation_of(outcomes: Outcomes) -> Emulation | None:
    if outcomes.emulate is None:
        return None
    facts = outcomes.emulate.facts
    return Emulation(
        runtime=str(outcomes.emulate.call.params["runtime"]),
        variant=facts["variant"],
        similarity=similarity_of(outcomes.emulate),
        placement=_placed(facts["placement"]),
    )


def executed_of(outcomes: Outcomes) -> Executed:
    plan = outcomes.plan
    return Executed(
        stage=plan.executed.stage,
        format=plan.executed_format,
        deployable=plan.executed.key == plan.chain[-1].key,
        asked=plan.execution.asked,
    )


def layer_errors_of(outcomes: Outcomes) -> tuple[LayerError, ...]:
    facts = outcomes.diagnosis.facts["layer_errors"] if outcomes.diagnosis else ()
    return tuple(LayerError.model_validate(one) for one in facts)


def checked_of(outcomes: Outcomes) -> tuple[Checked, ...]:
    """What stages checked of their own output."""
    told = [item for item in outcomes.chain if "checked" in item.facts]
    return tuple(Checked(stage=item.call.stage, how=item.facts["checked"]) for item in told)


def half_range_of(outcomes: Outcomes) -> HalfRange | None:
    """The ranges that a conversion to fp16 recorded."""
    for item in outcomes.chain:
        if "largest_tensors" in item.facts:
            facts = item.facts
            return HalfRange(
                tensors=facts["tensors_measured"],
                above=facts["tensors_above_fp16"],
                largest=tuple(LargestTensor.model_validate(one) for one in facts["largest_tensors"]),
                texts=facts["texts"],
            )
    return None


def not_built_of(outcomes: Outcomes) -> tuple[NotBuilt, ...]:
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


def interval(values: Sequence[float] | None) -> tuple[float, float] | None:
    return (values[0], values[1]) if values else None


def _finite(value: Any) -> Any:
    """JSON has no NaN: what is not a number is not there."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def only(facts: Mapping[str, Any], model: type[Any]) -> dict[str, Any]:
    """The facts that the result has a place for; the rest stays in the measurement's history."""
    return {name: value for name, value in facts.items() if name in model.model_fields}
