"""What a user asked for, checked: the catalog, the recipes with their models and data, and their plans.

All that `invoke plan` needs, and no more of what runs: a command starts in as long as its imports take.
"""

from __future__ import annotations

import contextlib
import functools
import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from portwright.calls import RecipePlan
from portwright.digests import DigestMemory
from portwright.engines.kinds import EngineKind
from portwright.errors import UsageError
from portwright.plan import Planner
from portwright.project import Project
from portwright.recipe import Recipe
from portwright.sources import LocalSource, ModelSource, parse_data, parse_model
from portwright.stages import StageLibrary
from portwright.target import ALL, Catalog, Target
from portwright.toolchain import load_toolchains
from portwright.vendor import find_archives

if TYPE_CHECKING:
    from portwright.devices import Access

DIGESTS = "digests.json"


@dataclass(frozen=True)
class Request:
    """What a user asked for, as typed. None where an option was left out."""

    targets: str | None
    recipe: str | None = None
    model: str | None = None
    data: str | None = None
    engine: str | None = None
    device: str | None = None
    """A device of the target, by the name that target.toml gives it; None where something stands in for one."""
    measure_again: bool = False
    make_only: bool = False
    """Whether to end with what ships: nothing is measured, evaluated or judged."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One recipe with its model and data, checked; no engine chosen yet."""

    target: Target
    recipe: Recipe
    model: ModelSource
    data: LocalSource | None
    device: str | None = None
    access: Access | None = None
    """What of this machine the device's calls are given."""


def load_catalog(project: Project) -> Catalog:
    """Targets, recipes, stages, and toolchains with the vendor archives that are there."""
    memory = DigestMemory(project.artifacts / DIGESTS)
    archives = find_archives(project.targets, project.vendor, memory)
    memory.save()
    return Catalog(project.targets, load_toolchains(project.docker, archives), StageLibrary(project.shared))


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Recipes and plans are many small objects that all stay: looking for garbage among them takes half of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            # And whatever looks for garbage later needn't look at them either.
            gc.freeze()
            gc.enable()


@_uncollected()
def resolve(project: Project, catalog: Catalog, request: Request, *, look: bool = True) -> list[Wanted]:
    """Everything asked for, checked before anything starts; `look` for the device on this machine, too."""
    memory = DigestMemory(project.artifacts / DIGESTS)
    if request.targets is None and request.recipe is None:
        raise UsageError(
            "neither --target nor --recipe says what to run", hint=f"--target={', '.join(catalog.targets)}"
        )
    # A recipe knows its target.
    chosen = catalog.recipes_for(catalog.select(ALL if request.targets is None else request.targets), request.recipe)
    data = None if request.data is None else parse_data(request.data, memory)

    @functools.cache  # a folder is looked through once, not for every recipe
    def model(text: str, revision: str) -> ModelSource:
        return parse_model(text, revision, memory)

    wanted = [
        Wanted(
            target=target,
            recipe=recipe,
            model=model(recipe.model.source if request.model is None else request.model, recipe.model.revision),
            data=data,
            device=request.device,
            access=_access(target, request.device) if request.device and look else None,
        )
        for target, recipe in chosen
    ]
    memory.save()
    return wanted


def _access(target: Target, device: str) -> Access:
    from portwright.devices import find

    return find(device, target.device(device))


@_uncollected()
def plans_for(catalog: Catalog, wanted: Sequence[Wanted], kind: EngineKind) -> list[RecipePlan]:
    """The plans of all recipes for one kind of engine."""
    planner = Planner(catalog, kind)
    return [planner.plan(item.target, item.recipe, item.model, item.data, item.device, item.access) for item in wanted]
