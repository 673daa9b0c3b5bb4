"""The main job: recipes to plans, plans to artifacts and numbers, and a view of each for people and programs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from portwright.board import Board
from portwright.calls import RecipePlan
from portwright.capacity import asked_for
from portwright.devices import this_system
from portwright.engines.base import Engine
from portwright.engines.choose import choose, open_engine
from portwright.engines.kinds import ENGINE_KINDS, EngineKind, parse_kind
from portwright.executor import Executor
from portwright.locks import Usage
from portwright.maker import Maker
from portwright.outcomes import Outcomes
from portwright.project import Project
from portwright.recipe_work import RecipeWork, Report, report_made, write_report
from portwright.request import Request, Wanted, load_catalog, plans_for, resolve
from portwright.run_records import commit_of
from portwright.shelf import Shelf
from portwright.summary import build_result, wants_diagnosis


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """How a whole run ended. `engine` says which engine served, and why."""

    engine: str
    reports: Sequence[Report] = field(default_factory=tuple)


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
        choice = choose(asked)
        board.line(f"engine: {choice.kind} ({choice.why})")
        plans = plans_for(catalog, wanted, choice.kind)
        with _engine(project, choice.kind) as engine:
            for item in wanted:
                if item.access:
                    engine.admit(item.access)
                    board.line(f"device {item.access}")
            capacity = asked_for(engine.capacity())
            executor = Executor(Shelf(project.artifacts), engine, board, project.shared, capacity)
            reports = _run_all(executor, project, board, list(zip(wanted, plans, strict=True)), request)
    return RunSummary(engine=f"{choice.kind} ({choice.why})", reports=reports)


def _run_all(
    executor: Executor, project: Project, board: Board, recipes: Sequence[tuple[Wanted, RecipePlan]], request: Request
) -> list[Report]:
    """Run recipes side by side; their reports, in the recipes' order."""
    reports: dict[int, Report] = {}
    works = [
        RecipeWork(
            project=project,
            board=board,
            wanted=wanted,
            plan=plan,
            again=request.measure_again,
            make_only=request.make_only,
            keep=partial(reports.__setitem__, index),
        ).work()
        for index, (wanted, plan) in enumerate(recipes)
    ]
    executor.run(works)
    return [reports[index] for index in range(len(recipes))]


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


def build(project: Project, targets: str, engine: str | None, board: Board) -> list[str]:
    """Build the toolchains of targets; their names. EngineError where one can't be built.

    Those of a device that this system can't have are left out, and for containers those that no image is of.
    """
    catalog = load_catalog(project)
    selected = catalog.select(targets)
    for target in selected:
        catalog.check_archives(target)
    choice = choose(parse_kind(engine))
    board.line(f"engine: {choice.kind} ({choice.why})")
    wanted = dict.fromkeys(name for target in selected for name in target.toolchains_on(this_system()))
    names = [name for name in wanted if choice.kind != "docker" or catalog.toolchains[name].has_image]
    with Usage(project.artifacts).in_use(), _engine(project, choice.kind) as opened:
        maker = Maker(Shelf(project.artifacts), opened, board, project.shared, lambda: None)
        for name in names:
            maker.prepare(catalog.toolchains[name])
    return names


@contextlib.contextmanager
def _engine(project: Project, kind: EngineKind) -> Iterator[Engine]:
    engine = open_engine(kind, project)
    try:
        yield engine
    finally:
        engine.close()
