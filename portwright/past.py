"""`invoke history`: a recipe's measurements over time, under whatever keys the recipe has had."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from portwright.errors import UsageError
from portwright.history import Measurement
from portwright.labels import ran_on
from portwright.likeness import Protocol, protocol_of
from portwright.naming import slug, suggestion
from portwright.results import RunResult
from portwright.run_records import CHANGED, HISTORY, RunRecord, lines, records
from portwright.tables import table
from portwright.view import RESULT

SHORT = 10
HEADER = (
    "#",
    "measured",
    "device@host",
    "ran on",
    "of fp32",
    "interval",
    "p50 ms",
    "verdict",
    "similarity",
    "min",
    "drop",
    "commit",
    "key",
)
NOTE = """\
of fp32: the ratio to ONNX Runtime fp32, run in turn with it, with its 95 % interval. It can be held against another
line's; the milliseconds of another host or another hour can't. drop: accuracy lost against fp32, in points.
Another key: another code, recipe or toolchain.
Two of them side by side: invoke compare RECIPE@1 RECIPE@2 (their numbers)."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One measurement of a recipe on a model, with the run it belongs to."""

    number: int
    """1 for the recipe's oldest on this model: what `RECIPE@NUMBER` names."""
    benchmark: Measurement
    evaluation: Measurement | None
    commits: tuple[str, ...]
    """Commits at which a run took or took over this measurement, oldest first; a plus sign for a changed checkout."""
    base: RunResult
    """The run's result, or that of a later run with the same key: all but what was measured is equal."""

    @cached_property
    def place(self) -> str:
        return f"{self.benchmark.device}@{self.benchmark.host}"

    @property
    def commit(self) -> str:
        """The last of them, short."""
        last = self.commits[-1] if self.commits else ""
        return last[:SHORT] + (CHANGED if last.endswith(CHANGED) else "")

    @property
    def facts(self) -> dict[str, Any]:
        return self.benchmark.facts

    @property
    def similarity(self) -> dict[str, Any]:
        return self.evaluation.facts.get("similarity", {}) if self.evaluation else {}

    @property
    def accuracy(self) -> dict[str, Any] | None:
        """The probe's facts, where the data had labelled pairs."""
        return self.evaluation.facts.get("accuracy") if self.evaluation else None

    @property
    def judged(self) -> bool:
        """Whether `base` is the run that took this measurement, so that its gates are of these figures."""
        return self.base.measured == self.benchmark.taken

    @property
    def protocol(self) -> Protocol | None:
        """None where the similarity's texts are not known."""
        return protocol_of(self.facts, self.evaluation.facts) if self.evaluation else None


@dataclass(frozen=True, kw_only=True)
class Series:
    """All measurements of a recipe on a model, oldest first."""

    model: str
    recipe: str
    points: tuple[Point, ...]


def collect(root: Path, recipe: str | None = None, model: str | None = None) -> list[Series]:
    """The series of a host volume; UsageError where there is none of that recipe or model."""
    found = find(root)
    if not found:
        raise UsageError("no measurement is recorded yet", why=f"{root} holds none", hint="invoke run --target=…")
    for name, asked in (("recipe", recipe), ("model", model)):
        known = {value for series in found for value in _names(series, name)}
        if asked is not None and asked not in known and slug(asked) not in known:
            raise UsageError(f"no measurement of {name} {asked!r} is recorded", hint=suggestion(asked, known))
        if asked is not None:
            found = [series for series in found if {asked, slug(asked)} & _names(series, name)]
    return found


def history_text(found: Sequence[Series]) -> str:
    """A table a recipe, oldest measurement first, and what its figures mean."""
    parts = [f"{series.model} / {series.recipe}\n{table(HEADER, [_row(p) for p in series.points])}" for series in found]
    return "\n\n".join([*parts, NOTE])


def _row(point: Point) -> tuple[str, ...]:
    facts, similarity = point.facts, point.similarity
    latency, interval = facts.get("latency_ms") or {}, facts.get("latency_ratio_interval")
    return (
        str(point.number),
        point.benchmark.taken.replace("+00:00", "Z"),
        point.place,
        ran_on(point.base).kind,
        _number(facts.get("latency_ratio"), 3),
        f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else "-",
        _number(latency.get("p50"), 2),
        str(facts.get("verdict") or "-"),
        _number(similarity.get("mean"), 4),
        _number(similarity.get("min"), 4),
        f"{100 * point.accuracy['drop']:+.1f}" if point.accuracy else "-",
        point.commit or "-",
        point.benchmark.key[:SHORT],
    )


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def find(root: Path) -> list[Series]:
    """Every series with at least one measurement."""
    return [series for folder in sorted(_folders(root)) if (series := series_of(root, *folder)).points]


def series_of(root: Path, model: str, recipe: str) -> Series:
    """Every measurement under any key that the recipe had on this model."""
    runs = records(root / HISTORY / model / f"{recipe}.jsonl")
    if current := _result(root / "runs" / model / recipe / RESULT):
        runs.append(RunRecord(result=current))
    by_key: dict[str, list[RunRecord]] = {}
    for run in runs:
        by_key.setdefault(_key(run.result, "benchmark"), []).append(run)
    taken = [(item, same_key) for key, same_key in by_key.items() for item in _measured(root, key)]
    taken.sort(key=lambda pair: pair[0].taken)
    points = [_point(root, number, *pair) for number, pair in enumerate(taken, start=1)]
    return Series(model=model, recipe=recipe, points=tuple(points))


def _point(root: Path, number: int, benchmark: Measurement, runs: Sequence[RunRecord]) -> Point:
    """A measurement with the run that took it, else with the last run of the same key."""
    own = [item for item in runs if item.result.measured == benchmark.taken]
    run = (own or runs)[-1]
    return Point(
        number=number,
        benchmark=benchmark,
        evaluation=_beside(root, _key(run.result, "evaluate"), benchmark),
        commits=tuple(dict.fromkeys(item.commit for item in own if item.commit)),
        base=run.result,
    )


def _folders(root: Path) -> set[tuple[str, str]]:
    """(model, recipe) of everything that ran."""
    views = {(path.parent.parent.name, path.parent.name) for path in (root / "runs").glob(f"[!.]*/[!.]*/{RESULT}")}
    records = {(path.parent.name, path.name.removesuffix(".jsonl")) for path in (root / HISTORY).glob("*/*.jsonl")}
    return views | records


def _names(series: Series, what: str) -> set[str]:
    """What a user may call a series' recipe or model."""
    return {series.recipe} if what == "recipe" else {series.model, *(p.base.model.source for p in series.points)}


def _key(result: RunResult, stage: str) -> str:
    return next((item.key for item in result.stages if item.name == stage), "")


def _measured(root: Path, key: str) -> Iterator[Measurement]:
    """Every whole line of a key's history, on whatever device and host."""
    if not key:
        return
    for path in sorted((root / "measurements" / key).glob("*.jsonl")):
        yield from lines(path, Measurement)


def _beside(root: Path, key: str, benchmark: Measurement) -> Measurement | None:
    """The evaluation of the same run, else the newest one before it on the same host, else any there.

    Its key says what executed: it judges embeddings, which are keyed by their runtime and device.
    """
    found = [item for item in _measured(root, key) if item.host == benchmark.host]
    if same := [item for item in found if item.run == benchmark.run]:
        return same[-1]
    before = [item for item in found if item.taken <= benchmark.taken] or found
    return before[-1] if before else None


def _result(path: Path) -> RunResult | None:
    try:
        return RunResult.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None
