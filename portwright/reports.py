"""How a run ended, and each of its recipes: a result with its view, written, or what stopped it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from portwright.calls import RecipePlan
from portwright.errors import PortwrightError
from portwright.outcomes import Outcomes
from portwright.project import Project
from portwright.request import Wanted
from portwright.results import RunResult
from portwright.run_records import commit_of, record
from portwright.shelf import Done
from portwright.store import Artifact
from portwright.summary import about, build_result
from portwright.view import Views


@dataclass(frozen=True, kw_only=True)
class Report:
    """How one recipe ended: a result with its view, what was made and not judged, or the error that stopped it."""

    wanted: Wanted
    result: RunResult | None = None
    view: Path | None = None
    made: Artifact | None = None
    """What ships, where nothing more was asked for."""
    nothing_ran: bool = False
    error: PortwrightError | None = None


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """How a whole run ended. `engine` says which engine served, and why."""

    engine: str
    reports: Sequence[Report] = field(default_factory=tuple)


def report_made(wanted: Wanted, plan: RecipePlan, done: Sequence[Done]) -> Report:
    """What a recipe made, from the outcomes of its plan's `make_calls`. No view is written: it was not judged."""
    [package] = [item for item in done if item.call.key == plan.package.key]
    return Report(wanted=wanted, made=package.artifact, nothing_ran=all(item.cached for item in done))


def write_report(project: Project, wanted: Wanted, outcomes: Outcomes) -> Report:
    """Write the view of a recipe that has run, and the record of its run; StoreError where the disk refuses."""
    result = build_result(outcomes)
    package = outcomes.package.artifact
    assert package is not None
    views = Views(project.artifacts)
    view = views.write(wanted.model, result, package, outcomes.samples(), about(outcomes))
    record(project.artifacts, view.parent.name, result, commit_of(project.root))
    return Report(wanted=wanted, result=result, view=view, nothing_ran=outcomes.nothing_ran)
