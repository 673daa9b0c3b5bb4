"""The chain of a recipe's stages: that they can follow each other, and which of their models is executed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from portwright.errors import RecipeError
from portwright.recipe import Recipe
from portwright.stages import Declaration
from stagelib.api import Format


class Made(NamedTuple):
    """What the chain has made after one of its stages."""

    stage: str
    format: Format | None
    fixed: bool
    """Whether its input shape is the recipe's."""


def check_chain(recipe: Recipe, chain: Sequence[Declaration]) -> list[Made]:
    """What each stage makes; RecipeError for stages that can't follow each other."""
    made: list[Made] = []
    for index, declaration in enumerate(chain):
        before = made[-1] if made else None
        _check_step(recipe, declaration, index, before)
        _check_rounding(recipe, chain[: index + 1])
        stage = declaration.stage
        fixed = stage.fixes_shape or (before is not None and before.fixed)
        made.append(Made(stage=declaration.name, format=stage.makes, fixed=fixed))
    if not made or not made[-1].fixed:
        raise RecipeError(f"recipe {recipe.path}: stages: none fixes the input shape", hint="add `fix_shape`")
    return made


def executable(recipe: Recipe, made: Sequence[Made], loadable: Sequence[str]) -> int:
    """Index of the last model that a runtime can load: the deployable, or what it was compiled from.

    RecipeError where it can load none.
    """
    for index in reversed(range(len(made))):
        if made[index].fixed and made[index].format in loadable:
            return index
    why = f"the target's runtime loads {', '.join(loadable)}"
    raise RecipeError(
        f"recipe {recipe.path}: stages: the last one makes {made[-1].format}, and none before it anything else that "
        "could be executed",
        why=why,
        hint="add a stage",
    )


def _check_rounding(recipe: Recipe, chain: Sequence[Declaration]) -> None:
    """RecipeError where the last stage is given a model that isn't fp32 any more: what it made would be neither."""
    *before, last = chain
    first = next((one.name for one in before if one.stage.rounds), None)
    if last.stage.rounds and first:
        raise RecipeError(
            f"recipe {recipe.path}: stages[{len(before)}]: {last.name!r} takes an fp32 model, and {first!r} before it "
            "has brought it to fewer bits",
            hint="keep one of the two",
        )


def _check_step(recipe: Recipe, declaration: Declaration, index: int, before: Made | None) -> None:
    stage = declaration.stage

    def refused(why: str, hint: str) -> RecipeError:
        return RecipeError(f"recipe {recipe.path}: stages[{index}]: {declaration.name!r} {why}", hint=hint)

    if "model" in stage.inputs and before is None:
        raise refused("takes a model, and no stage before it makes one", "begin with `export`")
    if "model" not in stage.inputs and before is not None:
        raise refused("would throw away what the stages before it made", "it can only come first")
    if stage.takes is not None and before is not None and stage.takes != before.format:
        raise refused(f"takes a model in {stage.takes} format, and is given {before.format}", "reorder them")
    if "batches" in stage.inputs and recipe.calibration is None:
        hint = 'add "calibration": {"data": …, "field": …, "samples": …}'
        raise refused("needs calibration data", hint)
