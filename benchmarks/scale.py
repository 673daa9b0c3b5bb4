"""A thousand recipes a target, planned in a process of its own, so that its memory is its own; and a store of a hundred
thousand artifacts, looked up in and cleaned."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

from benchmarks import many_artifacts
from benchmarks.figures import Figure, markdown
from benchmarks.processes import INVOKE, ROOT, leaving_in_order, own_peak_bytes, succeeded, timed
from portwright.digests import DigestMemory
from portwright.project import ARTIFACTS_VARIABLE, this_project
from portwright.recipe import Recipe
from portwright.request import Wanted, load_catalog, plans_for
from portwright.sources import parse_model

RECIPES = 1000
TARGETS = ("cpu", "openvino", "qnn", "vitisai", "trt", "dml")
PLAN_S = 2.0
PLAN_MB = 500
PARTS = ("portwright", "shared", "docker", "device", "schemas", "tasks.py")
"""Of a checkout, what it takes beside its targets."""


def figures(repeats: int) -> Iterator[Figure]:
    """Each repeat in a fresh process, whose peak is its own."""
    once = [sys.executable, "-m", "benchmarks.scale", "--once"]
    found = [json.loads(succeeded(timed(once), "planning").out) for _ in range(repeats)]
    what = f"plan of {RECIPES} recipes on each of {len(TARGETS)} targets"
    note = f"{found[0]['calls']:,} different stage calls"
    yield Figure(name=what, unit="s", ours=[item["seconds"] for item in found], limit=PLAN_S, note=note)
    yield Figure(name=f"{what}, memory", unit="MB", ours=[item["mb"] for item in found], limit=PLAN_MB)
    yield from as_files(repeats)
    yield from many_artifacts.figures(repeats)


def as_files(repeats: int) -> Iterator[Figure]:
    """The whole command where each recipe is a file: read, checked, planned, looked up in an empty store, printed."""
    with tempfile.TemporaryDirectory(prefix="portwright-bench-") as name:
        root = Path(name)
        for part in PARTS:
            (shutil.copytree if (ROOT / part).is_dir() else shutil.copyfile)(ROOT / part, root / part)
        for target in TARGETS:
            _write_variants(ROOT / "targets" / target, root / "targets" / target)
        command = [*INVOKE, "plan", f"--target={','.join(TARGETS)}", "--recipe=all"]
        costs = [succeeded(timed(command, {ARTIFACTS_VARIABLE: name}, root), "planning") for _ in range(repeats + 1)]
    note = "the first, which compiles the command, apart"
    what = f"the same as {len(TARGETS) * RECIPES:,} files, by `invoke plan --recipe=all`"
    yield Figure(name=f"{what}, CPU", unit="s", ours=[cost.cpu_s for cost in costs[1:]], note=note)
    yield Figure(name=f"{what}, memory", unit="MB", ours=[cost.peak_bytes / 1e6 for cost in costs[1:]], limit=PLAN_MB)


def _write_variants(source: Path, folder: Path) -> None:
    """A target whose default recipe is there RECIPES times, each of its own on one sample more."""
    (folder / "recipes").mkdir(parents=True)
    shutil.copy2(source / "target.toml", folder)
    name = tomllib.loads((source / "target.toml").read_text())["default_recipe"]
    recipe = json.loads((source / "recipes" / f"{name}.json").read_text())
    for number in range(RECIPES):
        # The target file names the first of them.
        one = recipe | {"name": f"{name}-{number}" if number else name}
        one["evaluation"] = recipe["evaluation"] | {"samples": 16 + number}
        (folder / "recipes" / f"{one['name']}.json").write_text(json.dumps(one))


def variants(recipe: Recipe, count: int) -> Iterator[Recipe]:
    """Recipes that differ in what they calibrate or evaluate on, as a search over a recipe would have them."""
    for number in range(count):
        evaluation = recipe.evaluation.model_copy(update={"samples": 16 + number})
        yield recipe.model_copy(update={"name": f"{recipe.name}-{number}", "evaluation": evaluation})


def once() -> dict[str, float]:
    """Plan them all; what that took."""
    catalog = load_catalog(this_project())
    chosen = catalog.recipes_for([catalog.targets[name] for name in TARGETS], None)
    model = parse_model("synthetic:bert-base?seed=0", "main", DigestMemory(Path(os.devnull)))
    wanted = [
        Wanted(target=target, recipe=one, model=model, data=None, device=None, access=None)
        for target, recipe in chosen
        for one in variants(recipe, RECIPES)
    ]
    started = time.perf_counter()
    plans = plans_for(catalog, wanted, "docker")
    keys = {call.key for plan in plans for call in plan.calls}
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "mb": own_peak_bytes() / 1e6, "plans": len(plans), "calls": len(keys)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--once", action="store_true", help="plan in this process, and print JSON")
    given = parser.parse_args()
    if not 1 <= given.repeats <= many_artifacts.MOST_REPEATS:
        parser.error(f"--repeats={given.repeats}: 1 to {many_artifacts.MOST_REPEATS}, then the store is empty")
    print(json.dumps(once()) if given.once else markdown(list(figures(given.repeats))))


if __name__ == "__main__":
    with leaving_in_order():
        main()
