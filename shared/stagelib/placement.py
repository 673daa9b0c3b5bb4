"""Whether a graph is where its recipe wants it, and nothing fell to a CPU in silence: one rule, on host and device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

UNKNOWN = "unknown operator"
SHOWN = 8
"""More kinds of operators than this are not listed in a sentence."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A recipe's placement gate."""

    on: tuple[str, ...]
    """Execution providers, devices or compilers that must have the graph."""
    min_share: float = 1.0
    stand_in: tuple[str, ...] = ()
    may_stay_on_cpu: tuple[str, ...] = ()


class Part(Protocol):
    """How much of a graph is in one place."""

    @property
    def where(self) -> str: ...

    @property
    def nodes(self) -> int: ...

    @property
    def ops(self) -> Mapping[str, int]: ...

    @property
    def compute(self) -> float | None: ...


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a rule says of a placement. `passed` is None where nothing here can tell."""

    passed: bool | None
    limit: float
    share: float
    reason: str


def judge(rule: Rule, parts: Sequence[Part], how: str) -> Judgement:
    """The rule against a placement that the device, its compiler or its emulator decided."""
    inside = [part for part in parts if part.where in rule.on]
    outside = [part for part in parts if part.where not in rule.on]
    share = _share(rule, inside, outside)
    unwanted = _unwanted(rule, outside)
    return Judgement(
        passed=share >= rule.min_share and not unwanted,
        limit=rule.min_share,
        share=share,
        reason=_reason(rule, parts, share, unwanted, how),
    )


def judge_executed(rule: Rule, parts: Sequence[Part], *, on_cpu: bool, told: str) -> Judgement:
    """The rule against what was executed: the device, or what the recipe lets stand in for it."""
    judgement = judge(rule, parts, "executed")
    if judgement.passed or not on_cpu or not rule.stand_in:
        return judgement
    executed = judge(replace(rule, on=rule.stand_in, min_share=1.0), parts, "executed")
    if not executed.passed:
        return executed
    reason = f"{_seen(parts)} stood in for {', '.join(rule.on)}: no device was asked for, and {told}"
    return replace(executed, passed=None, reason=reason)


def _share(rule: Rule, inside: Sequence[Part], outside: Sequence[Part]) -> float:
    """Share of the graph that is inside: of its arithmetic where all parts know theirs, else of its nodes."""
    parts = [*inside, *outside]
    if parts and all(part.compute is not None for part in parts):
        return sum(part.compute or 0.0 for part in inside)
    allowed = sum(number for part in outside for op, number in part.ops.items() if op in rule.may_stay_on_cpu)
    total = sum(part.nodes for part in parts) - allowed
    return sum(part.nodes for part in inside) / total if total else 0.0


def _unwanted(rule: Rule, outside: Sequence[Part]) -> Counter[str]:
    """Operators outside that the list of allowed ones doesn't name; empty where the recipe has no such list."""
    found: Counter[str] = Counter()
    if rule.may_stay_on_cpu:
        for part in outside:
            found.update({op: number for op, number in part.ops.items() if op not in rule.may_stay_on_cpu})
            # A part that doesn't tell its operators is no way past the list.
            if untold := part.nodes - sum(part.ops.values()):
                found[UNKNOWN] += untold
    return found


def _reason(rule: Rule, parts: Sequence[Part], share: float, unwanted: Counter[str], how: str) -> str:
    places = ", ".join(rule.on)
    fallen = [part for part in parts if part.where not in rule.on and "cpu" in part.where.lower()]
    wrong = share < rule.min_share or unwanted
    begin = f"silent CPU fallback: {_seen(fallen)} instead of {places}; " if fallen and wrong else ""
    asked = f"at least {rule.min_share:.1%} is asked"
    if unwanted:
        asked += f", and {_listed(unwanted)} may not stay on the CPU"
    what = "of the graph" if not rule.may_stay_on_cpu else "of the graph, what may stay on the CPU left out,"
    return f"{begin}{share:.1%} {what} is on {places} ({how}: {_seen(parts)}), {asked}"


def _seen(parts: Sequence[Part]) -> str:
    return ", ".join(_part(part) for part in parts) or "nothing anywhere"


def _part(part: Part) -> str:
    listed = f" ({_listed(Counter(part.ops))})" if part.ops and len(part.ops) <= SHOWN else ""
    return f"{part.nodes} {'node' if part.nodes == 1 else 'nodes'} on {part.where}{listed}"


def _listed(ops: Counter[str]) -> str:
    return ", ".join(f"{number} {op}" for op, number in ops.most_common(SHOWN))
