"""Gates: conditions a run must meet. Pure: limits and findings in, records out."""

from __future__ import annotations

from portwright.recipe import Gates, PlacementGate
from portwright.results import GateRecord, Placement, Similarity


def judge(
    gates: Gates, similarity: Similarity, placement: Placement, latency_ratio: float | None
) -> tuple[GateRecord, ...]:
    """Every gate of a recipe against what was found. A value that is not a number fails."""
    records = [
        _at_least(
            "similarity.mean", gates.similarity.mean, similarity.mean, f"mean cosine over {similarity.samples} texts"
        ),
        _at_least("similarity.min", gates.similarity.min, similarity.min, "cosine of the worst text"),
        _placement(gates.placement, placement),
    ]
    if gates.latency_ratio is not None:
        records.append(_at_most("latency_ratio", gates.latency_ratio.max, latency_ratio))
    return tuple(records)


def failed(records: tuple[GateRecord, ...]) -> list[GateRecord]:
    """The gates that a run did not meet."""
    return [record for record in records if not record.passed]


def _at_least(name: str, limit: float, found: float | None, what: str) -> GateRecord:
    passed = found is not None and found >= limit
    shown = "not a number" if found is None else f"{found:.4f}"
    reason = f"{what} is {shown}, at least {limit:g} is asked"
    return GateRecord(name=name, passed=passed, limit=limit, found=found, reason=reason)


def _at_most(name: str, limit: float, found: float | None) -> GateRecord:
    passed = found is not None and found <= limit
    shown = "not measured" if found is None else f"{found:.3f}"
    return GateRecord(
        name=name,
        passed=passed,
        limit=limit,
        found=found,
        reason=f"latency over fp32 is {shown}, at most {limit:g} is asked",
    )


def _placement(gate: PlacementGate, placement: Placement) -> GateRecord:
    total = sum(part.nodes for part in placement.nodes)
    inside = sum(part.nodes for part in placement.nodes if part.where in gate.on)
    share = inside / total if total else 0.0
    seen = ", ".join(f"{part.nodes} on {part.where}" for part in placement.nodes) or "nothing"
    reason = f"{share:.1%} of the nodes ran on {', '.join(gate.on)} ({seen}), at least {gate.min_share:.1%} is asked"
    return GateRecord(
        name="placement", passed=share >= gate.min_share, limit=gate.min_share, found=share, reason=reason
    )
