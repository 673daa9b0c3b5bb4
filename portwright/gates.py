"""Gates: conditions a run must meet. Pure: limits and findings in, records out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from portwright.accuracy_gate import accuracy_record
from portwright.placement_gate import executed_record, placed_record
from portwright.recipe import Gates, RatioGate, SimilarityGate
from portwright.results import Accuracy, Emulation, ExecutedOn, GateRecord, Placement, Similarity
from stagelib import limits

MEGABYTE = 1e6


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a run found, as far as gates judge it."""

    similarity: Similarity
    placement: Placement
    executed_on: ExecutedOn = "cpu"
    asked: str = ""
    """The device of `--device`; empty where something stood in for one."""
    emulation: Emulation | None = None
    accuracy: Accuracy | None = None
    pairs_asked: int = 0
    """How many pairs the recipe wants judged."""
    without_pairs: bool = False
    """The data has no labelled pairs at all, so that accuracy can't be told."""
    latency_ratio: float | None = None
    latency_up_to: float | None = None
    """The upper end of the ratio's interval, where the measurement is unstable."""
    size_bytes: int = 0


def judge(gates: Gates, found: Findings) -> tuple[GateRecord, ...]:
    """Every gate of a recipe against what was found. A value that is not a number fails."""
    return tuple(_records(gates, found))


def computes_worse(gates: tuple[GateRecord, ...]) -> bool:
    """Whether a gate failed for what the model computes, and not for too few pairs to tell."""
    return any(
        gate.name.startswith("similarity") or (gate.name == "accuracy" and not too_few(gate)) for gate in failed(gates)
    )


def too_few(gate: GateRecord) -> bool:
    """Whether an accuracy gate failed though the drop found is within its margin: its pairs prove too little."""
    return gate.found is not None and gate.found <= gate.limit


def failed(records: tuple[GateRecord, ...]) -> list[GateRecord]:
    """The gates that a run did not meet."""
    return [record for record in records if record.passed is False]


def _records(gates: Gates, found: Findings) -> Iterator[GateRecord]:
    yield from _similar("similarity", gates.similarity, found.similarity)
    yield from _placed(gates, found)
    if gates.emulation is not None:
        yield from _emulated(gates.emulation, found)
    if gates.accuracy is not None:
        yield accuracy_record(
            gates.accuracy, found.accuracy, asked=found.pairs_asked, without_pairs=found.without_pairs
        )
    if gates.latency_ratio is not None:
        yield _fast_enough(gates.latency_ratio, found)
    if gates.size is not None:
        size = found.size_bytes / MEGABYTE
        reason = f"deploy/ has {size:.1f} MB, at most {gates.size.max_mb:g} is asked"
        limit = gates.size.max_mb
        yield GateRecord(name="size", passed=size <= limit, limit=limit, found=round(size, 3), reason=reason)


def _placed(gates: Gates, found: Findings) -> Iterator[GateRecord]:
    """The placement gate against whatever decided one: compiler, what executed, emulator."""
    placement, emulation = found.placement, found.emulation
    if placement.compiled:
        by = placement.compiled_by or "its compiler"
        yield placed_record("placement.compiled", gates.placement, placement.compiled, f"placed by {by}")
    yield executed_record(gates.placement, placement, found.executed_on)
    if emulation is not None and emulation.placement:
        yield placed_record("placement.emulated", gates.placement, emulation.placement, "run in the emulator")


def _emulated(gate: SimilarityGate, found: Findings) -> Iterator[GateRecord]:
    """The emulator against what was compiled; where it didn't run, nothing here can tell."""
    if found.emulation is not None:
        yield from _similar("emulation", gate, found.emulation.similarity)
        return
    why = f"the device {found.asked} executed instead" if found.asked else "it loads no model of the recipe"
    yield GateRecord(
        name="emulation", passed=None, limit=gate.mean, found=None, reason=f"the emulator didn't run: {why}"
    )


def _similar(name: str, gate: SimilarityGate, found: Similarity) -> Iterator[GateRecord]:
    for judged in limits.similar(name, (gate.mean, gate.min), (found.mean, found.min), found.samples):
        yield _record(judged)


def _fast_enough(gate: RatioGate, found: Findings) -> GateRecord:
    ran_on = found.asked or found.executed_on
    return _record(limits.fast_enough(gate.max, gate.on, found.latency_ratio, ran_on, found.latency_up_to))


def _record(judged: limits.Limit) -> GateRecord:
    return GateRecord(
        name=judged.name, passed=judged.passed, limit=judged.limit, found=judged.found, reason=judged.reason
    )
