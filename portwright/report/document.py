"""The report as one JSON document, for programs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from portwright.checked import StrictModel
from portwright.labels import RanOnKind
from portwright.past import Point
from portwright.report.data import Run, Runs
from portwright.results import RunResult


class MeasuredBefore(StrictModel):
    """One measurement of a recipe's history."""

    number: int
    taken: str
    device: str
    host: str
    key: str
    commit: str
    latency_ratio: float | None
    latency_ratio_interval: tuple[float, float] | None
    latency_p50_ms: float | None
    verdict: str | None
    similarity_mean: float | None
    similarity_min: float | None


class ReportedRun(StrictModel):
    """One recipe's last run on one model."""

    model: Annotated[str, Field(description="the model's folder under runs/")]
    ran_on: Annotated[RanOnKind, Field(description="what executed; a stand-in is a CPU in the device's place")]
    edited: Annotated[bool, Field(description="result.json is not the one its manifest vouches for")]
    result: RunResult
    toolchains: Annotated[dict[str, Any], Field(description="digest of each toolchain")]
    versions: Annotated[dict[str, Any], Field(description="what each toolchain held")]
    history: Annotated[tuple[MeasuredBefore, ...], Field(description="oldest first")]


class UnreadableRun(StrictModel):
    """A run folder that can't be shown."""

    folder: str
    why: str


class Report(StrictModel):
    """All results of a host volume."""

    version: Literal[1] = 1
    made: Annotated[str, Field(description="ISO 8601, UTC")]
    runs: tuple[ReportedRun, ...]
    unreadable: tuple[UnreadableRun, ...]


def document(runs: Runs, made: str) -> Report:
    """The document; `made` says when, ISO 8601, UTC."""
    return Report(
        made=made,
        runs=tuple(_run(run) for run in runs.runs),
        unreadable=tuple(UnreadableRun(folder=item.folder, why=item.why) for item in runs.unreadable),
    )


def _run(run: Run) -> ReportedRun:
    return ReportedRun(
        model=run.model,
        ran_on=run.ran_on.kind,
        edited=run.edited,
        result=run.result,
        toolchains=_object(run.manifest.get("toolchains")),
        versions=_object(run.manifest.get("versions")),
        history=tuple(_measured(point) for point in run.series.points),
    )


def _measured(point: Point) -> MeasuredBefore:
    interval, latency = point.facts.get("latency_ratio_interval"), point.facts.get("latency_ms") or {}
    return MeasuredBefore(
        number=point.number,
        taken=point.benchmark.taken,
        device=point.benchmark.device,
        host=point.benchmark.host,
        key=point.benchmark.key,
        commit=point.commit,
        latency_ratio=point.facts.get("latency_ratio"),
        latency_ratio_interval=(interval[0], interval[1]) if interval else None,
        latency_p50_ms=latency.get("p50"),
        verdict=point.facts.get("verdict"),
        similarity_mean=_number(point.similarity.get("mean")),
        similarity_min=_number(point.similarity.get("min")),
    )


def _number(value: Any) -> float | None:
    """JSON has no NaN: what is not a number is not there."""
    return value if isinstance(value, int | float) and value == value else None  # noqa: PLR0124


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
