"""What needs an engine: running what isn't there yet, and building toolchains."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial

from portwright.board import Board
from portwright.calls import RecipePlan
from portwright.capacity import asked_for
from portwright.devices import this_system
from portwright.engines.base import Engine
from portwright.engines.choose import choose, open_engine
from portwright.engines.kinds import EngineKind, parse_kind
from portwright.executor import Executor
from portwright.locks import Usage
from portwright.maker import Maker
from portwright.project import Project
from portwright.recipe_work import RecipeWork
from portwright.reports import Report, RunSummary
from portwright.request import Request, Wanted, load_catalog, plans_for
from portwright.shelf import Shelf
from portwright.target import Catalog


def make(project: Project, catalog: Catalog, wanted: Sequence[Wanted], request: Request, board: Board) -> RunSummary:
    """Run recipes on an engine. The caller holds the host volume against cleaning."""
    choice = choose(parse_kind(request.engine))
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
