"""A thousand recipes a target, planned in a process of its own, so that its memory is its own; and a store of a hundred
thousand artifacts, looked up in and cleaned."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import many_artifacts
from benchmarks.figures import Figure, markdown
from benchmarks.processes import own_peak_bytes, succeeded, timed
from portwright.digests import DigestMemory
from portwright.project import this_project
from portwright.recipe import Recipe
from portwright.request import Wanted, load_catalog, plans_for
from portwright.sources import parse_model

RECIPES = 1000
TARGETS = ("cpu", "openvino", "qnn", "vitisai", "trt", "dml")
PLAN_S = 2.0
PLAN_MB = 500


def figures(repeats: int) -> Iterator[Figure]:
    """Each repeat in a fresh process, whose peak is its own."""
    once = [sys.executable, "-m", "benchmarks.scale", "--once"]
    found = [json.loads(succeeded(timed(once), "planning").out) for _ in range(repeats)]
    what = f"plan of {RECIPES} recipes on each of {len(TARGETS)} targets"
    note = f"{found[0]['calls']:,} different stage calls"
    yield Figure(name=what, unit="s", ours=[item["seconds"] for item in found], limit=PLAN_S, note=note)
    yield Figure(name=f"{what}, memory", unit="MB", ours=[item["mb"] for item in found], limit=PLAN_MB)
    yield from many_artifacts.figures(repeats)


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
    main()
