"""The main job: recipes to plans, plans to artifacts and numbers. What is there already is found without an engine."""

from __future__ import annotations

from collections.abc import Sequence

from portwright.board import Board
from portwright.calls import RecipePlan
from portwright.engines.kinds import ENGINE_KINDS, parse_kind
from portwright.locks import Usage
from portwright.outcomes import Outcomes
from portwright.project import Project
from portwright.reports import Report, RunSummary, report_made, write_report
from portwright.request import Request, Wanted, load_catalog, plans_for, resolve
from portwright.run_records import commit_of
from portwright.shelf import Shelf
from portwright.summary import build_result, wants_diagnosis


def run(project: Project, request: Request, board: Board) -> RunSummary:
    """Run what was asked for. Raises for what is wrong before a start; a recipe's own failure is in its report."""
    asked = parse_kind(request.engine)
    commit_of(project.root)  # now, and once: a commit made while this runs is not what ran
    catalog = load_catalog(project)
    wanted = resolve(project, catalog, request)
    with Usage(project.artifacts).in_use():
        if not request.measure_again:
            for kind in [asked] if asked else ENGINE_KINDS:
                plans = plans_for(catalog, wanted, kind)
                if summary := (_nothing_to_make if request.make_only else _nothing_to_do)(project, wanted, plans):
                    return summary
        from portwright.making import make

        return make(project, catalog, wanted, request, board)


def _nothing_to_do(project: Project, wanted: Sequence[Wanted], plans: Sequence[RecipePlan]) -> RunSummary | None:
    """The summary of a run that finds everything made before; None if anything is missing. No engine is asked."""
    shelf = Shelf(project.artifacts)
    found: list[Outcomes] = []
    for plan in plans:
        done = shelf.find_all(plan.calls)
        if done is None:
            return None
        outcomes = Outcomes(plan, done)
        if plan.diagnose:
            outcomes.diagnosis = shelf.find(plan.diagnose)
            # A gate may have been raised over measurements that are there: its layers are still to be found.
            if outcomes.diagnosis is None and wants_diagnosis(build_result(outcomes)):
                return None
        found.append(outcomes)
    reports = [write_report(project, item, outcomes) for item, outcomes in zip(wanted, found, strict=True)]
    return RunSummary(engine=_not_contacted(plans), reports=reports)


def _nothing_to_make(project: Project, wanted: Sequence[Wanted], plans: Sequence[RecipePlan]) -> RunSummary | None:
    """The same where only what ships is asked for."""
    shelf = Shelf(project.artifacts)
    reports: list[Report] = []
    for item, plan in zip(wanted, plans, strict=True):
        done = shelf.find_all(plan.make_calls)
        if done is None:
            return None
        reports.append(report_made(item, plan, done))
    return RunSummary(engine=_not_contacted(plans), reports=reports)


def _not_contacted(plans: Sequence[RecipePlan]) -> str:
    return f"not contacted: all of this was made by {plans[0].engine} before"
