"""`invoke compare`: one run against another: better, worse or the same, by figures that a noisy machine can't fake.

Absolute times are never compared: ratios to fp32 are, which were measured pair by pair. What was not measured alike is
refused. docs/report.md states the rules.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from portwright.accuracy_gate import interval
from portwright.errors import UsageError
from portwright.findings import Finding, Outcome, bounded, gates, status
from portwright.labels import ran_on
from portwright.likeness import unlike
from portwright.project import Project
from portwright.results import RunResult, Similarity
from portwright.sides import Side, find_sides
from portwright.tables import table

REPEATABILITY = 0.03
"""Two measurements of the same model on the same machine lie within so much of their middle."""
SAME_COSINE = 1e-4
"""Difference of mean cosines that is none: gates and tables show as many digits."""
SAME_WORST_COSINE = 5e-3
"""The worst text is one text: it moves where the mean doesn't."""
SAME_CENTRED = 2e-3
"""Taking off what all texts have in common spreads the rest: what is chance in the mean is more here."""
SAME_NEAREST = 0.05
"""Of 64 texts, three: each is one text that may as well lie nearest to another."""
SAME_SIZE = 0.01
RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two runs of a kind, held against each other: A first, B after."""

    before: Side
    after: Side
    findings: tuple[Finding, ...]

    @property
    def regressions(self) -> list[str]:
        return [item.name for item in self.findings if item.outcome == "regression"]


def compare(project: Project, a: str, b: str) -> list[Comparison]:
    """The runs that A and B name, pair by pair; UsageError where one can't be found or the two can't be compared."""
    return [_compare(before, after) for before, after in find_sides(project, a, b)]


def comparison_text(comparisons: Sequence[Comparison]) -> str:
    """What to print: a table a pair, then what it comes to, regressions named."""
    return "\n\n".join(_text(item) for item in comparisons)


def regressions(comparisons: Sequence[Comparison]) -> list[str]:
    """Every regression with the run it is in; empty where there is none."""
    return [f"{name} of {item.after.result.recipe}" for item in comparisons for name in item.regressions]


def _compare(before: Side, after: Side) -> Comparison:
    left, right = before.result, after.result
    if differences := unlike(left, right, (before.protocol, after.protocol)):
        raise UsageError(
            f"{before.label} and {after.label} can't be compared",
            why="they were not measured alike (A and B):\n    " + "\n    ".join(differences),
            hint="measure both in the same way: invoke bench, with the same model, data and device",
        )
    findings = [_latency(left, right), *_similarity(before, after), _accuracy(left, right), _size(left, right)]
    return Comparison(before=before, after=after, findings=(*_judgement(before, after), *findings))


def _judgement(before: Side, after: Side) -> Iterator[Finding]:
    """Status and gates, as far as they were judged on these very measurements; placement holds for every one."""
    left, right = before.result, after.result
    unjudged = [name for name, side in (("A", before), ("B", after)) if not side.judged]
    if not unjudged:
        yield status(left, right)
        yield from gates(left.gates, right.gates)
        return
    why = f"no run recorded what the gates said of {' and '.join(unjudged)}: placement's alone are compared"
    yield Finding(name="status", before="-", after="-", outcome="not compared", why=why)
    yield from gates(*([gate for gate in side.gates if gate.name.startswith("placement")] for side in (left, right)))


def _latency(left: RunResult, right: RunResult) -> Finding:
    name, shown = "latency over fp32", (_ratio(left), _ratio(right))
    invalid = [side for side, result in (("A", left), ("B", right)) if result.verdict == "invalid"]
    before, after = _widened(left), _widened(right)
    if invalid == ["B"] and before is not None:
        why = f"the measurement of B is invalid: {right.verdict_reason}"
        return Finding(name=name, before=shown[0], after=shown[1], outcome="regression", why=why)
    if invalid or before is None or after is None:
        why = f"the measurement of {' and '.join(invalid)} is invalid" if invalid else "no ratio was measured"
        return Finding(name=name, before=shown[0], after=shown[1], outcome="not compared", why=why)
    outcome: Outcome = "regression" if after[0] > before[1] else "improvement" if after[1] < before[0] else "tie"
    why = f"intervals, at the least ±{REPEATABILITY:.0%}, overlap" if outcome == "tie" else "intervals lie apart"
    unstable = [side for side, result in (("A", left), ("B", right)) if result.verdict == "unstable"]
    if unstable:
        why += f"; the measurement of {' and '.join(unstable)} is unstable"
    return Finding(name=name, before=shown[0], after=shown[1], outcome=outcome, why=why)


def _widened(result: RunResult) -> tuple[float, float] | None:
    """The ratio's interval, at the least as wide as two measurements of the same model differ."""
    ratio = result.latency_ratio
    if ratio is None:
        return None
    low, high = result.latency_ratio_interval or (ratio, ratio)
    return min(low, ratio * (1 - REPEATABILITY)), max(high, ratio * (1 + REPEATABILITY))


def _ratio(result: RunResult) -> str:
    if result.latency_ratio is None:
        return "-"
    found = result.latency_ratio_interval
    return f"{result.latency_ratio:.3f}" + (f" ({found[0]:.3f} to {found[1]:.3f})" if found else "")


def _similarity(before: Side, after: Side) -> Iterator[Finding]:
    left, right = before.result.similarity, after.result.similarity
    yield _mean_similarity(left, right, before.cosines, after.cosines)
    yield bounded("similarity, worst text", left.min, right.min, SAME_WORST_COSINE)
    if left.centred_mean is not None and right.centred_mean is not None:
        yield bounded("similarity, centred", left.centred_mean, right.centred_mean, SAME_CENTRED)
    if left.nearest_agreement is not None and right.nearest_agreement is not None:
        yield bounded("nearest text agrees", left.nearest_agreement, right.nearest_agreement, SAME_NEAREST)


def _mean_similarity(left: Similarity, right: Similarity, first: Sequence[float], second: Sequence[float]) -> Finding:
    """Text by text where both runs' texts are at hand: the interval of the mean difference, else the difference."""
    name = "similarity, mean"
    plain = bounded(name, left.mean, right.mean, SAME_COSINE)
    finite = left.mean is not None and right.mean is not None
    if plain.outcome == "tie" or not finite or not first or len(first) != len(second):
        return plain
    low, high = paired_interval(first, second)
    if low <= 0 <= high:
        why = f"text by text the difference lies between {low:+.4f} and {high:+.4f}"
        return Finding(name=name, before=plain.before, after=plain.after, outcome="tie", why=why)
    why = f"text by text it differs by {low:+.4f} to {high:+.4f}"
    return Finding(name=name, before=plain.before, after=plain.after, outcome=plain.outcome, why=why)


def paired_interval(first: Sequence[float], second: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Bootstrap interval (95 %) of the mean of `second` minus `first`, both in the order of the same texts."""
    differences = [after - before for before, after in zip(first, second, strict=True)]
    draw = random.Random(seed)  # noqa: S311 - a bootstrap
    means = sorted(statistics.fmean(draw.choices(differences, k=len(differences))) for _ in range(RESAMPLES))
    tail = round(RESAMPLES * (1 - CONFIDENCE) / 2)
    return means[tail], means[-tail - 1]


def _accuracy(left: RunResult, right: RunResult) -> Finding:
    """By the intervals of the drop against fp32 that the gate judges by: paired, and never of no width."""
    name, before, after = "accuracy drop", left.accuracy, right.accuracy
    if before is None or after is None:
        shown = ["-" if item is None else f"{100 * item.drop:+.2f}" for item in (before, after)]
        return Finding(name=name, before=shown[0], after=shown[1], outcome="not compared", why="not judged in both")
    first, second = (interval(item.only_fp32, item.only_optimized, item.samples) for item in (before, after))
    shown = [
        f"{100 * item.drop:+.2f} ({100 * low:+.2f} to {100 * high:+.2f}) points"
        for item, (low, high) in ((before, first), (after, second))
    ]
    if (before.task, before.samples) != (after.task, after.samples):
        why = "another task or other samples"
        return Finding(name=name, before=shown[0], after=shown[1], outcome="not compared", why=why)
    outcome: Outcome = "regression" if second[0] > first[1] else "improvement" if second[1] < first[0] else "tie"
    why = "intervals overlap" if outcome == "tie" else "intervals lie apart"
    return Finding(name=name, before=shown[0], after=shown[1], outcome=outcome, why=why)


def _size(left: RunResult, right: RunResult) -> Finding:
    before, after = left.size_bytes, right.size_bytes
    outcome: Outcome = "tie"
    if abs(after - before) > SAME_SIZE * before:
        outcome = "regression" if after > before else "improvement"
    shown = [f"{size / 1e6:.1f} MB" for size in (before, after)]
    why = f"at most {SAME_SIZE:.0%} apart" if outcome == "tie" else f"{after / before - 1:+.1%}" if before else ""
    return Finding(name="size", before=shown[0], after=shown[1], outcome=outcome, why=why)


def _text(item: Comparison) -> str:
    heads = [
        f"{letter}: {side.label} ({side.result.target}, {ran_on(side.result).sentence}, {side.result.measured})"
        for letter, side in (("A", item.before), ("B", item.after))
    ]
    rows = [(found.name, found.before, found.after, found.outcome, found.why) for found in item.findings]
    named = [f"{found.outcome}: {found.name}, {found.before} to {found.after}" for found in item.findings]
    ends = [line for line in named if line.startswith(("regression", "improvement"))]
    return "\n".join([*heads, table(("figure", "A", "B", "B is", "why"), rows), *(ends or ["No difference."])])
