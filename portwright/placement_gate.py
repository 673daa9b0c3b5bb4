"""The placement gate: the rule of `stagelib.placement`, as a recipe states it and a result records it."""

from __future__ import annotations

from collections.abc import Sequence

from portwright.recipe import PlacementGate
from portwright.results import ExecutedOn, GateRecord, Placed, Placement
from stagelib.placement import Judgement, Rule, judge, judge_executed


def placed_record(name: str, gate: PlacementGate, parts: Sequence[Placed], how: str) -> GateRecord:
    """The gate against a placement that the device, its compiler or its emulator decided."""
    return _record(name, judge(rule(gate), parts, how))


def executed_record(gate: PlacementGate, placement: Placement, executed_on: ExecutedOn) -> GateRecord:
    """The gate against what was executed: the device, or what the recipe lets stand in for it."""
    told = "its compiler's placement is gated too" if placement.compiled else "nothing here places it as a device does"
    return _record("placement", judge_executed(rule(gate), placement.nodes, on_cpu=executed_on == "cpu", told=told))


def rule(gate: PlacementGate) -> Rule:
    """The recipe's gate as the rule that is judged by."""
    return Rule(on=gate.on, min_share=gate.min_share, stand_in=gate.stand_in, may_stay_on_cpu=gate.may_stay_on_cpu)


def _record(name: str, judgement: Judgement) -> GateRecord:
    return GateRecord(
        name=name, passed=judgement.passed, limit=judgement.limit, found=judgement.share, reason=judgement.reason
    )
