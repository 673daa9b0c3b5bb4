"""What a target asks of every recipe for it, beyond what any recipe must be."""

from __future__ import annotations

from portwright.errors import RecipeError
from portwright.naming import suggestion
from portwright.recipe import Recipe
from portwright.target_file import TargetFile


def check_gates(recipe: Recipe, target: TargetFile) -> None:
    """RecipeError for a gate that could never be judged there, or that is looser than the target allows."""
    place = f"recipe {recipe.path}: gates"
    if recipe.gates.emulation and target.emulator is None:
        raise RecipeError(
            f"{place}.emulation: target {target.name!r} has no emulator",
            hint="leave the gate out, or add [emulator] to target.toml",
        )
    ratio, devices = recipe.gates.latency_ratio, ("cpu", *target.devices)
    if ratio and ratio.on not in devices:
        raise RecipeError(
            f"{place}.latency_ratio.on: target {target.name!r} has no device {ratio.on!r}",
            why="the gate would never be judged",
            hint=suggestion(ratio.on, devices),
        )
    gate, rules = recipe.gates.placement, target.placement
    if rules is None:
        return
    known = (*rules.on, *(name for name in rules.stand_in if name not in rules.on))
    for field, names, allowed in (("on", gate.on, known), ("stand_in", gate.stand_in, rules.stand_in)):
        for name in names:
            if name not in allowed:
                raise RecipeError(
                    f"{place}.placement.{field}: nothing of target {target.name!r} reports {name!r}",
                    hint=suggestion(name, allowed) if allowed else "nothing may stand in there",
                )
    if rules.strict and (gate.min_share < 1.0 or gate.may_stay_on_cpu):
        raise RecipeError(
            f"{place}.placement: target {target.name!r} takes all of the graph or nothing",
            why="what its compiler leaves to the CPU makes the deployable slower than the CPU alone",
            hint="leave out min_share and may_stay_on_cpu",
        )
