"""What `invoke plan` and `invoke list` print. Pure: values in, text out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from portwright.calls import RecipePlan, unique
from portwright.tables import table
from portwright.target import Catalog


def plan_text(plans: Sequence[RecipePlan], there: AbstractSet[str]) -> str:
    """The calls of all plans, each once; `there` are the keys of those that need not run."""
    recipes = Counter(call.key for plan in plans for call in plan.calls)
    rows = []
    for call in unique(call for plan in plans for call in plan.calls):
        state = "there" if call.key in there else "to run"
        rows.append((call.stage, call.toolchain.name, call.key[:12], state, str(recipes[call.key])))
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
