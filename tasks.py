"""Portwright's commands. Each parses its options, calls one function of portwright/ and prints what comes back.

They import it when they run: `invoke --list` needs nothing of it.
"""

from __future__ import annotations

import os
import sys

from invoke.context import Context
from invoke.tasks import task

# Invoke has Python write no bytecode, for the sake of small task files. Ours imports a program, which starts in half
# the time with it.
sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))

TARGET = "one target, several with commas, or all; left out: the recipe's own"
RECIPE = "a recipe's name, all (of the targets), or a JSON file; left out: the target's default recipe"
MODEL = "hub id[@revision], a local folder, or synthetic:bert-base?seed=0; left out: the recipe's own"
DATA = "JSON-lines or Parquet file with the fields the recipe names; left out: the recipe's hub data"
DEVICE = "a device of the target (npu, gpu), passed to what executes; left out: something stands in for it, labelled so"
MAKE_ONLY = "make what ships and no more: nothing is measured, evaluated or judged, and runs/ stays as it is"
ENGINE = "docker or venv; left out: docker if an engine answers, else venv"
SELECTION = {
    "target": TARGET,
    "recipe": RECIPE,
    "model": MODEL,
    "data": DATA,
    "engine": ENGINE,
    "device": DEVICE,
}


@task(auto_shortflags=False, help={"target": "one target, several with commas, or all", "engine": ENGINE})
def build(_: Context, target: str, engine: str | None = None) -> None:
    """Build the toolchain images (or virtual environments) of targets."""
    from portwright import commands

    commands.build(target, engine)


@task(auto_shortflags=False, help={**SELECTION, "make-only": MAKE_ONLY})
def run(
    _: Context,
    target: str | None = None,
    recipe: str | None = None,
    model: str | None = None,
    data: str | None = None,
    engine: str | None = None,
    device: str | None = None,
    make_only: bool = False,
) -> None:
    """Run recipes: export, quantize, compile, benchmark, evaluate; builds what is missing."""
    from portwright import commands

    commands.run(commands.Request(target, recipe, model, data, engine, device, make_only=make_only))


@task(auto_shortflags=False, help=SELECTION)
def bench(
    _: Context,
    target: str | None = None,
    recipe: str | None = None,
    model: str | None = None,
    data: str | None = None,
    engine: str | None = None,
    device: str | None = None,
) -> None:
    """Measure again, even if there is a measurement; builds what is missing."""
    from portwright import commands

    request = commands.Request(
        targets=target, recipe=recipe, model=model, data=data, engine=engine, device=device, measure_again=True
    )
    commands.run(request)


@task(auto_shortflags=False, help=SELECTION)
def plan(
    _: Context,
    target: str = "all",
    recipe: str | None = None,
    model: str | None = None,
    data: str | None = None,
    engine: str | None = None,
    device: str | None = None,
) -> None:
    """Show the stage calls of recipes and what is there already; contacts no engine."""
    from portwright import commands

    commands.plan(commands.Request(target, recipe, model, data, engine, device))


@task(auto_shortflags=False, help=SELECTION)
def explain(
    _: Context,
    target: str | None = None,
    recipe: str | None = None,
    model: str | None = None,
    data: str | None = None,
    engine: str | None = None,
    device: str | None = None,
) -> None:
    """Say which part of each stage's key differs from the last run."""
    from portwright import commands

    commands.explain(commands.Request(target, recipe, model, data, engine, device))


@task(name="list", auto_shortflags=False)
def list_(_: Context) -> None:
    """List targets, recipes, toolchains and stages."""
    from portwright import commands

    commands.list_all()


@task(
    auto_shortflags=False,
    help={
        "format": "github (one line) or json (indented)",
        "jobs": "all, compile (no device), device, or images (one job for each set of them)",
    },
)
def matrix(_: Context, format: str = "github", jobs: str = "all") -> None:  # noqa: A002 - the option's name
    """Print the CI matrix: a job for each target, device and recipe."""
    from portwright import commands

    commands.matrix(format, jobs)


@task(
    auto_shortflags=False,
    help={
        "recipe": "a recipe's name, or a JSON file",
        "out": "the zip file; a folder with --platform=all",
        "target": "the recipe's target; left out: whichever has it",
        "model": MODEL,
        "platform": "a platform of device/platforms.toml, or all; left out: this machine's",
        "reference": "pack the fp32 model too: the device then measures ratio and similarity as the host does",
    },
)
def bundle(
    _: Context,
    recipe: str,
    out: str,
    target: str | None = None,
    model: str | None = None,
    platform: str | None = None,
    reference: bool = False,
) -> None:
    """Pack a run for a device without Docker: what ships, a small runner, locked requirements."""
    from portwright import commands

    commands.bundle(recipe, out, target, model, platform, reference=reference)


@task(auto_shortflags=False, help={"of": "a result.json, or a folder of them", "format": "table or markdown"})
def results(_: Context, of: str, format: str = "table") -> None:  # noqa: A002 - the option's name
    """Show results that were made elsewhere: on a device, or in CI."""
    from portwright import commands

    commands.results(of, format)


@task(
    auto_shortflags=False,
    help={
        "out": "the file; left out: report.html on the host volume, or standard output for the other formats",
        "format": "html (one self-contained page), markdown or json",
        "model": "only runs of this model, by its folder under runs/",
    },
)
def report(_: Context, out: str | None = None, format: str = "html", model: str | None = None) -> None:  # noqa: A002
    """Write a report of the last run of every recipe."""
    from portwright import commands

    commands.report(out, format, model)


@task(auto_shortflags=False, help={"recipe": "a recipe's name", "model": "a model's folder under runs/"})
def history(_: Context, recipe: str | None = None, model: str | None = None) -> None:
    """Show measurements over time."""
    from portwright import commands

    commands.history(recipe, model)


@task(
    auto_shortflags=False,
    positional=["first", "second"],
    help={
        "first": "a result.json, a run's folder, [MODEL/]RECIPE[@number|@date|@commit], or a commit",
        "second": "the same, to be held against the first",
        "fail-on-regression": "exit code 3 where the second is worse",
    },
)
def compare(_: Context, first: str, second: str, fail_on_regression: bool = False) -> None:
    """Compare two runs, or two commits' runs: better, worse or a tie; refused where they were not measured alike."""
    from portwright import commands

    commands.compare(first, second, fail_on_regression=fail_on_regression)


@task(
    auto_shortflags=False,
    help={
        "yes": "remove; without it only what would be removed is shown",
        "everything": "all of the host volume, results included",
        "older-than": "only what was made more than this many days ago",
    },
)
def clean(_: Context, yes: bool = False, everything: bool = False, older_than: str = "0") -> None:
    """Remove artifacts that no result refers to, and environments of toolchains that changed."""
    from portwright import commands

    commands.clean(yes=yes, everything=everything, older_than=older_than)
