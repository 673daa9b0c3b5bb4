"""The placement gate: that the graph is where the recipe wants it, and that nothing fell to a CPU in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from portwright.recipe import PlacementGate
from portwright.results import ExecutedOn, GateRecord, Placed, Placement

SHOWN = 8
"""More kinds of operators than this are not listed in a sentence."""


def placed_record(name: str, gate: PlacementGate, parts: Sequence[Placed], how: str) -> GateRecord:
    """The gate against a placement that the device, its compiler or its emulator decided."""
    inside = [part for part in parts if part.where in gate.on]
    outside = [part for part in parts if part.where not in gate.on]
    share = _share(gate, inside, outside)
    unwanted = _unwanted(gate, outside)
    return GateRecord(
        name=name,
        passed=share >= gate.min_share and not unwanted,
        limit=gate.min_share,
        found=share,
        reason=_reason(gate, parts, share, unwanted, how),
    )


def executed_record(gate: PlacementGate, placement: Placement, executed_on: ExecutedOn) -> GateRecord:
    """The gate against what was executed: the device, or what the recipe lets stand in for it."""
    record = placed_record("placement", gate, placement.nodes, "executed")
    if record.passed or executed_on != "cpu" or not gate.stand_in:
        return record
    stand_in = gate.model_copy(update={"on": gate.stand_in, "min_share": 1.0})
    executed = placed_record("placement", stand_in, placement.nodes, "executed")
    if not executed.passed:
        return executed
    told = "its compiler's placement is gated too" if placement.compiled else "nothing here places it as a device does"
    seen = _seen(placement.nodes)
    return executed.model_copy(
        update={
            "passed": None,
            "reason": f"{seen} stood in for {', '.join(gate.on)}: no device was asked for, and {told}",
        }
    )


def _share(gate: PlacementGate, inside: Sequence[Placed], outside: Sequence[Placed]) -> float:
    """Share of the graph that is inside: of its arithmetic where all parts know theirs, else of its nodes."""
    parts = [*inside, *outside]
    if parts and all(part.compute is not None for part in parts):
        return sum(part.compute or 0.0 for part in inside)
    allowed = sum(number for part in outside for op, number in part.ops.items() if op in gate.may_stay_on_cpu)
    total = sum(part.nodes for part in parts) - allowed
    return sum(part.nodes for part in inside) / total if total else 0.0


def _unwanted(gate: PlacementGate, outside: Sequence[Placed]) -> Counter[str]:
    """Operators outside that a list of allowed ones doesn't name; empty where the recipe has no such list."""
    found: Counter[str] = Counter()
    if gate.may_stay_on_cpu:
        for part in outside:
            found.update({op: number for op, number in part.ops.items() if op not in gate.may_stay_on_cpu})
    return found


def _reason(gate: PlacementGate, parts: Sequence[Placed], share: float, unwanted: Counter[str], how: str) -> str:
    places = ", ".join(gate.on)
    fallen = [part for part in parts if part.where not in gate.on and "cpu" in part.where.lower()]
    wrong = share < gate.min_share or unwanted
    begin = f"silent CPU fallback: {_seen(fallen)} instead of {places}; " if fallen and wrong else ""
    asked = f"at least {gate.min_share:.1%} is asked"
    if unwanted:
        asked += f", and {_listed(unwanted)} may not stay on the CPU"
    return f"{begin}{share:.1%} of the graph is on {places} ({how}: {_seen(parts)}), {asked}"


def _seen(parts: Sequence[Placed]) -> str:
    return (
        ", ".join(
            f"{part.nodes} {'node' if part.nodes == 1 else 'nodes'} on {part.where}"
            + (f" ({_listed(Counter(part.ops))})" if part.ops and len(part.ops) <= SHOWN else "")
            for part in parts
        )
        or "nothing anywhere"
    )


def _listed(ops: Counter[str]) -> str:
    return ", ".join(f"{number} {op}" for op, number in ops.most_common(SHOWN))
