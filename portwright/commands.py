"""The commands behind the tasks: call, print, and turn errors into one message and one exit code.

Each imports what it alone needs when it runs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from invoke.exceptions import Exit

from portwright.calls import RecipePlan
from portwright.disk import STORAGE_HINTS, storage_error
from portwright.engines.kinds import ENGINE_KINDS, parse_kind
from portwright.errors import GateError, InterruptedRunError, PortwrightError
from portwright.project import this_project
from portwright.request import Request, load_catalog, plans_for, resolve
from portwright.shelf import Shelf

PROJECT = this_project()
BROKEN_PIPE = 141
ENOUGH = 50
"""So many recipes at least are looked at to see which engine's results are there."""
__all__ = [
    "Request",
    "build",
    "bundle",
    "clean",
    "compare",
    "explain",
    "history",
    "list_all",
    "matrix",
    "plan",
    "report",
    "results",
    "run",
]


def run(request: Request) -> None:
    """Run recipes and print their results; the first failure's class decides the exit code."""
    from portwright import faces
    from portwright.board import Board
    from portwright.run import run as run_recipes

    with _reported():
        summary = run_recipes(PROJECT, request, Board())
        print(faces.run_text(PROJECT, summary))
        errors = [report.error for report in summary.reports if report.error]
        for error in errors[1:]:
            print(f"error: {error}", file=sys.stderr)
        if errors:
            raise errors[0]
        if rejected := faces.rejected(summary):
            raise GateError(f"a gate failed: {', '.join(rejected)}; the deployable is marked rejected")


def build(targets: str, engine: str | None) -> None:
    """Build toolchains."""
    from portwright.board import Board
    from portwright.making import build as run_build

    with _reported():
        names = run_build(PROJECT, targets, engine, Board())
        print(f"ready: {', '.join(names)}")


def plan(request: Request) -> None:
    """Print the plan of recipes."""
    from portwright.listing import plan_text

    with _reported():
        print(plan_text(*_plans(request)))


def explain(request: Request) -> None:
    """Print what differs from the last run."""
    from portwright.explain import explain_text
    from portwright.view import Views

    with _reported():
        plans, _ = _plans(request)
        views = Views(PROJECT.artifacts)
        for item in plans:
            print(explain_text(item, views.manifest(item.model, item.recipe.name)))


def list_all() -> None:
    """Print targets, recipes and stages."""
    from portwright.listing import list_text

    with _reported():
        print(list_text(load_catalog(PROJECT)))


def matrix(format_: str, jobs: str) -> None:
    """Print what CI runs, alone on standard output."""
    from portwright import matrix as matrices
    from portwright.device_locks import load_device_locks

    with _reported():
        print(matrices.text(load_catalog(PROJECT), load_device_locks(PROJECT), format_=format_, jobs=jobs))


def bundle(
    recipe: str, out: str, target: str | None, model: str | None, platform: str | None, *, reference: bool
) -> None:
    """Pack a run for a device without Docker."""
    from portwright import bundle as bundles

    request = bundles.BundleRequest(recipe, out, target, model, platform, reference)
    with _reported():
        print(bundles.text(PROJECT, bundles.bundle(PROJECT, request)))


def results(path: str, format_: str) -> None:
    """Print results that were made elsewhere."""
    from portwright import faces
    from portwright.naming import user_path
    from portwright.readback import read_results

    with _reported():
        print(faces.results_text(read_results(user_path(path)), format_))


def report(out: str | None, form: str, model: str | None) -> None:
    """Write the report, or print it."""
    from portwright.report import report as write_report

    with _reported():
        print(write_report(PROJECT, out, form, model))


def history(recipe: str | None, model: str | None) -> None:
    """Print a recipe's measurements over time."""
    from portwright.past import collect, history_text

    with _reported():
        print(history_text(collect(PROJECT.artifacts, recipe, model)))


def compare(first: str, second: str, *, fail_on_regression: bool) -> None:
    """Print what is better and what is worse; GateError's exit code where that is asked."""
    from portwright.compare import compare as compare_runs
    from portwright.compare import comparison_text, regressions

    with _reported():
        found = compare_runs(PROJECT, first, second)
        print(comparison_text(found))
        if fail_on_regression and (worse := regressions(found)):
            raise GateError(f"worse than before: {'; '.join(worse)}")


def clean(*, yes: bool, everything: bool, older_than: str) -> None:
    """Remove what nothing refers to, or say what would go."""
    from portwright import cleaning
    from portwright.locks import Usage

    with _reported():
        days = cleaning.parse_days(older_than)
        catalog = load_catalog(PROJECT)
        with Usage(PROJECT.artifacts).cleaning() if yes else contextlib.nullcontext():
            found = cleaning.find(PROJECT, catalog, everything=everything, older_than_days=days)
            if yes:
                cleaning.remove(found, PROJECT)
        print(cleaning.text(found, PROJECT, removed=yes))


def _plans(request: Request) -> tuple[list[RecipePlan], set[str]]:
    """Plans for the engine asked for, else for the one whose results are there, else for docker; and the keys there."""
    asked = parse_kind(request.engine)
    catalog = load_catalog(PROJECT)
    wanted = resolve(PROJECT, catalog, request, look=False)
    shelf = Shelf(PROJECT.artifacts)
    kinds = [asked] if asked else ENGINE_KINDS[:1] if shelf.empty else ENGINE_KINDS
    kind = kinds[0]
    if len(kinds) > 1:
        # Of thousands of recipes, some tell as well as all.
        some = wanted[:: len(wanted) // ENOUGH + 1]
        kind = max(kinds, key=lambda kind: len(_there(shelf, plans_for(catalog, some, kind))))
    plans = plans_for(catalog, wanted, kind)
    return plans, _there(shelf, plans)


def _there(shelf: Shelf, plans: Sequence[RecipePlan]) -> set[str]:
    """Keys of the plans' calls whose outcome is on the shelf."""
    return shelf.there(call for item in plans for call in item.calls)


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    """The top-level handler: one clear message, the class's exit code, and no traceback unless --debug."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except PortwrightError as error:
        _end(error)
    except KeyboardInterrupt:
        _end(InterruptedRunError("interrupted", hint="the same command goes on where it was"))
    except Exit:
        raise
    except BrokenPipeError:
        # Whoever read our output has gone: `invoke list | head`. Nothing more can be said, at exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise Exit(None, BROKEN_PIPE) from None
    except Exception as error:  # the one broad handler: a bug must not look like a user's mistake
        if isinstance(error, OSError) and error.errno in STORAGE_HINTS and _is_ours(error.filename2 or error.filename):
            _end(storage_error(PROJECT.artifacts, error))
        if _debugging():
            raise
        traceback_line = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{traceback_line.filename}:{traceback_line.lineno}"
        message = f"error: this is a bug in Portwright: {type(error).__name__}: {error}\n  at: {where}"
        raise Exit(f"{message}\n  try: --debug shows the traceback", PortwrightError.exit_code) from None


def _is_ours(name: object) -> bool:
    """Whether a path lies on the host volume; where the system names none, a write of ours failed."""
    return name is None or Path(str(name)).is_relative_to(PROJECT.artifacts)


def _end(error: PortwrightError) -> NoReturn:
    if _debugging():
        traceback.print_exception(error)
    raise Exit(f"error: {error}", error.exit_code) from None


def _terminate(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def _debugging() -> bool:
    return "--debug" in sys.argv or bool(os.environ.get("PORTWRIGHT_DEBUG"))
