"""Tables of what there is and what would be done: values in, text out. Of results, `faces` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from portwright.calls import RecipePlan, in_order
from portwright.shelf import Shelf
from portwright.target import Catalog


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns under headings, as wide as their widest cell."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def plan_text(plans: Sequence[RecipePlan], shelf: Shelf) -> str:
    """The calls of all plans, each once, with what is there already."""
    recipes = Counter(call.key for plan in plans for call in plan.calls)
    rows = []
    for call in in_order(call for plan in plans for call in plan.calls):
        there = "there" if shelf.find(call) else "to run"
        rows.append((call.stage, call.toolchain.name, call.key[:12], there, str(recipes[call.key])))
    engine = plans[0].engine if plans else "-"
    return (
        table(("stage", "toolchain", "key", "state", "recipes"), rows)
        + f"\nKeys are those of the {engine} engine; --engine chooses."
    )


def list_text(catalog: Catalog) -> str:
    """Targets with their recipes, toolchains, and stages."""
    for target in catalog.targets.values():
        for recipe in target.recipe_paths:
            catalog.recipes_for([target], recipe)  # what can't be run is not listed, but named
    rows = [
        (
            target.name,
            target.file.title,
            recipe + (" (default)" if recipe == target.file.default_recipe else ""),
            ", ".join(target.file.toolchains),
        )
        for target in catalog.targets.values()
        for recipe in target.recipe_paths
    ]
    stages = [(item.name, item.stage.summary) for item in catalog.stage_library.recipe_stages.values()]
    return "\n\n".join(
        [table(("target", "hardware", "recipe", "toolchains"), rows), table(("stage", "what it does"), stages)]
    )
