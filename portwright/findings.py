"""What a comparison says of one figure of two runs, and the figures that any two results have: status and gates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from portwright.results import GateRecord, RunResult

Outcome = Literal["regression", "improvement", "tie", "not compared"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One figure of both runs."""

    name: str
    before: str
    after: str
    outcome: Outcome
    why: str = ""


def bounded(name: str, before: float | None, after: float | None, same: float) -> Finding:
    """Higher is better; a difference of at most `same` is none. What is no number is worse than what is one."""
    shown = ["NaN" if value is None else f"{value:.4f}" for value in (before, after)]
    outcome: Outcome
    if before is None or after is None:
        outcome = "tie" if before is after else "regression" if after is None else "improvement"
        why = "an embedding is not finite"
    else:
        outcome = "regression" if after < before - same else "improvement" if after > before + same else "tie"
        why = f"at most {same:.3g} apart" if outcome == "tie" else f"{after - before:+.4f}"
    return Finding(name=name, before=shown[0], after=shown[1], outcome=outcome, why=why)


def status(left: RunResult, right: RunResult) -> Finding:
    """Whether what ships may ship: a run that failed is worse than one that passed, whichever gate it was."""
    outcome: Outcome = "tie"
    if left.status != right.status:
        outcome = "regression" if right.status == "failed" else "improvement"
    return Finding(name="status", before=left.status, after=right.status, outcome=outcome)


def gates(left: Sequence[GateRecord], right: Sequence[GateRecord]) -> Iterator[Finding]:
    """Gates whose outcome changed, that B alone has and fails, or that A alone has."""
    known, still = {gate.name: gate for gate in left}, {gate.name for gate in right}
    for gate in right:
        if found := _gate(known.get(gate.name), gate):
            yield found
    for gate in left:
        if gate.name not in still:
            name, why = f"gate {gate.name}", "B has no such gate: nothing judged what it had asked"
            yield Finding(name=name, before=_told(gate), after="-", outcome="not compared", why=why)


def _gate(before: GateRecord | None, gate: GateRecord) -> Finding | None:
    """A limit that moved is said, for then the change may be the limit's."""
    name, after = f"gate {gate.name}", _told(gate)
    if before is None:
        why = f"A had no such gate: {gate.reason}"
        return (
            Finding(name=name, before="-", after=after, outcome="regression", why=why) if gate.passed is False else None
        )
    if before.passed == gate.passed:
        return None
    outcome: Outcome = "not compared"
    if gate.passed is False:
        outcome = "regression"
    elif before.passed is False:
        outcome = "improvement"
    moved = f" (the limit was {before.limit:g})" if before.limit != gate.limit else ""
    return Finding(name=name, before=_told(before), after=after, outcome=outcome, why=gate.reason + moved)


def _told(gate: GateRecord) -> str:
    return {True: "passed", False: "failed", None: "can't tell"}[gate.passed]
