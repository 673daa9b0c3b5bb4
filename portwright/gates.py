"""Gates: conditions a run must meet. Pure: limits and findings in, records out."""

from __future__ import annotations

from collections.abc import Iterator

from portwright.placement_gate import executed_record, placed_record
from portwright.recipe import Gates, SimilarityGate
from portwright.results import Emulation, ExecutedOn, GateRecord, Placement, Similarity


def judge(
    gates: Gates,
    similarity: Similarity,
    placement: Placement,
    latency_ratio: float | None,
    *,
    executed_on: ExecutedOn = "cpu",
    emulation: Emulation | None = None,
) -> tuple[GateRecord, ...]:
    """Every gate of a recipe against what was found. A value that is not a number fails."""
    records = [*_similar("similarity", gates.similarity, similarity)]
    if placement.compiled:
        by = placement.compiled_by or "its compiler"
        records.append(placed_record("placement.compiled", gates.placement, placement.compiled, f"placed by {by}"))
    records.append(executed_record(gates.placement, placement, executed_on))
    if emulation is not None:
        if emulation.placement:
            records.append(
                placed_record("placement.emulated", gates.placement, emulation.placement, "run in the emulator")
            )
        if gates.emulation is not None:
            records += _similar("emulation", gates.emulation, emulation.similarity)
    if gates.latency_ratio is not None:
        records.append(_at_most("latency_ratio", gates.latency_ratio.max, latency_ratio))
    return tuple(records)


def failed(records: tuple[GateRecord, ...]) -> list[GateRecord]:
    """The gates that a run did not meet."""
    return [record for record in records if record.passed is False]


def _similar(name: str, gate: SimilarityGate, found: Similarity) -> Iterator[GateRecord]:
    yield _at_least(f"{name}.mean", gate.mean, found.mean, f"mean cosine over {found.samples} texts")
    yield _at_least(f"{name}.min", gate.min, found.min, "cosine of the worst text")


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
