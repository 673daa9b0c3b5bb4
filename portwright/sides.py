"""Which runs the two arguments of `invoke compare` name: files, folders, recipes, their histories, or commits."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from portwright import past, run_records
from portwright.checked import ModelT
from portwright.errors import UsageError
from portwright.likeness import Protocol
from portwright.naming import suggestion, user_path
from portwright.past import Point, Series
from portwright.project import Project
from portwright.report.data import Unreadable, cosines, read_run
from portwright.result_parts import session_settings_of
from portwright.results import (
    Accuracy,
    AllThreads,
    FirstInference,
    LatencyMs,
    RunResult,
    Similarity,
    Sustained,
    Throughput,
)
from portwright.view import RESULT

WHAT = "a result.json, a run's folder, RECIPE or MODEL/RECIPE, these with @NUMBER, @DATE or @COMMIT, or two commits"
_DATE = re.compile(r"^\d{4}-\d\d")
_LEAST_HEX = 7


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of two runs to compare."""

    label: str
    result: RunResult
    protocol: Protocol | None
    cosines: tuple[float, ...] = ()
    """Similarity text by text, in the texts' order; empty where not every text's is at hand."""
    judged: bool = True
    """Status and gates are of this very measurement."""


def find_sides(project: Project, a: str, b: str) -> list[tuple[Side, Side]]:
    """The pairs that two arguments name: one, or for two commits every recipe on every model that both have run."""
    known = past.find(project.artifacts)
    first, second = (_side(project, known, text) for text in (a, b))
    if first is not None and second is not None:
        return [(first, second)]
    if first is second is None:
        commits = [run_records.resolve(project.root, text) for text in (a, b)]
        if all(commits):
            return _commits(known, (a, b), commits)
    unknown = a if first is None else b
    names = {series.recipe for series in known} | {f"{series.model}/{series.recipe}" for series in known}
    raise UsageError(f"{unknown!r} names no run", why=f"wanted: {WHAT}", hint=suggestion(unknown, names))


def _commits(known: Sequence[Series], asked: tuple[str, str], commits: Sequence[str]) -> list[tuple[Side, Side]]:
    pairs = [[_at_commit(series, commit) for commit in commits] for series in known]
    found = [
        (_of_point(series, one), _of_point(series, other))
        for series, (one, other) in zip(known, pairs, strict=True)
        if one is not None and other is not None
    ]
    if not found:
        raise UsageError(
            f"no recipe was run at both {asked[0]} and {asked[1]}",
            why="runs of a checkout with changes are no commit's",
            hint="invoke history shows what was run, and at which commit",
        )
    return found


def _side(project: Project, known: Sequence[Series], text: str) -> Side | None:
    """The run that one argument names, or None; UsageError where it names several, or something that can't be read."""
    path = user_path(text)
    if (path / RESULT).is_file() or (path.name == RESULT and path.is_file()):
        return _of_folder(project, path if path.is_dir() else path.parent, text)
    if path.is_file():
        return _of_file(path, text)
    if matches := _named(known, text):
        series = _only(matches, text)
        folder = project.artifacts / "runs" / series.model / series.recipe
        return (
            _of_folder(project, folder, text) if (folder / RESULT).is_file() else _of_point(series, series.points[-1])
        )
    name, _, selector = text.rpartition("@")
    if name and (matches := _named(known, name)):
        series = _only(matches, name)
        return _of_point(series, _selected(project, series, selector))
    return None


def _named(known: Sequence[Series], name: str) -> list[Series]:
    return [series for series in known if name in {series.recipe, f"{series.model}/{series.recipe}"}]


def _only(matches: Sequence[Series], name: str) -> Series:
    if len(matches) > 1:
        full = ", ".join(f"{series.model}/{series.recipe}" for series in matches)
        raise UsageError(f"{name!r} was run on several models", hint=f"name one of: {full}")
    return matches[0]


def _selected(project: Project, series: Series, selector: str) -> Point:
    """The measurement that stands behind the @: by number, by the beginning of its date, by commit."""
    numbers = {str(point.number): point for point in series.points}
    if selector in numbers:
        return numbers[selector]
    if _DATE.match(selector):
        wanted = selector.replace("Z", "+00:00").replace(" ", "T")
        found = [point for point in series.points if point.benchmark.taken.startswith(wanted)]
        if len(found) == 1:
            return found[0]
        why = f"{len(found)} of its measurements have that date"
    else:
        commit = run_records.resolve(project.root, selector) or (selector if len(selector) >= _LEAST_HEX else "")
        if commit and (point := _at_commit(series, commit)):
            return point
        why = "it has no measurement of that number or commit (a checkout with changes is no commit)"
    hint = f"invoke history --recipe={series.recipe} lists all {len(series.points)}"
    raise UsageError(f"@{selector} names no measurement of {series.recipe}", why=why, hint=hint)


def _at_commit(series: Series, commit: str) -> Point | None:
    """The newest measurement that a clean checkout of the commit took or took over."""
    found = [
        point
        for point in series.points
        if any(name.startswith(commit) and not name.endswith(run_records.CHANGED) for name in point.commits)
    ]
    return found[-1] if found else None


def _of_folder(project: Project, folder: Path, label: str) -> Side:
    folder = folder.resolve()
    # A folder of another host volume brings that volume's history along.
    root = folder.parents[2] if folder.parents[1].name == "runs" else project.artifacts
    run = read_run(root, folder)
    if isinstance(run, Unreadable):
        raise UsageError(f"can't read {label}", why=run.why)
    taken = [point for point in run.series.points if point.benchmark.taken == run.result.measured]
    return Side(
        label=label,
        result=run.result,
        protocol=run.result.protocol or (taken[-1].protocol if taken else None),
        cosines=run.cosines if len(run.cosines) == run.result.similarity.samples else (),
    )


def _of_file(path: Path, label: str) -> Side:
    """A result alone: no samples beside it, and no history."""
    try:
        result = RunResult.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"can't read {label}", why=str(error)) from None
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in fault["loc"]) or "the file"
        raise UsageError(f"{label} is no result of this version", why=f"{place}: {fault['msg']}") from None
    return Side(label=label, result=result, protocol=result.protocol)


def _of_point(series: Series, point: Point) -> Side:
    result, scored = _as_measured(point), cosines(list(point.evaluation.samples) if point.evaluation else [])
    return Side(
        label=f"{series.model}/{series.recipe}@{point.number}",
        result=result,
        protocol=point.protocol,
        cosines=scored if len(scored) == result.similarity.samples else (),
        judged=point.judged,
    )


def _as_measured(point: Point) -> RunResult:
    """The run's result with what this measurement found; gates and status remain those of another (`Side.judged`)."""
    base, facts = point.base, point.facts
    if point.judged:
        return base
    interval = facts.get("latency_ratio_interval")
    changes = {
        "measured": point.benchmark.taken,
        "latency_ms": _part(LatencyMs, facts.get("latency_ms")),
        "baseline_latency_ms": _part(LatencyMs, facts.get("baseline_latency_ms")),
        "throughput": _part(Throughput, facts.get("throughput")),
        "latency_ratio": facts.get("latency_ratio"),
        "latency_ratio_interval": tuple(interval) if interval else None,
        "all_threads": _part(AllThreads, facts.get("all_threads")),
        "first_inference": _part(FirstInference, facts.get("first_inference")),
        "sustained": _part(Sustained, facts.get("sustained")),
        "verdict": facts.get("verdict"),
        "verdict_reason": facts.get("verdict_reason", ""),
        "settings": facts.get("settings", {}),
        "session_settings": session_settings_of(facts),
        "environment": facts.get("environment", {}),
        "device": _device(facts),
        "similarity": _part(Similarity, point.similarity) or base.similarity,
        "accuracy": _part(Accuracy, point.accuracy),
    }
    return base.model_copy(update=changes)


def _device(facts: Mapping[str, Any]) -> str:
    """What executed. Measurements from before it was recorded know no more than the processor, which is no device."""
    if "device_name" in facts:
        return str(facts["device_name"])
    return "" if facts.get("executed_on") == "device" else str(facts.get("environment", {}).get("cpu_model", ""))


def _part(model: type[ModelT], facts: Mapping[str, Any] | None) -> ModelT | None:
    """The facts that the result has a place for; what is no number is none, for a result is JSON."""
    known = {name: _finite(value) for name, value in (facts or {}).items() if name in model.model_fields}
    return model.model_validate_json(json.dumps(known)) if known else None


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
