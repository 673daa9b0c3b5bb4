"""A target: a kind of hardware, declared by `targets/<name>/target.toml` and the recipes beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from portwright.errors import RecipeError, UsageError
from portwright.naming import suggestion, user_path
from portwright.recipe import Recipe, load_recipe, steps
from portwright.stages import Declaration, StageLibrary
from portwright.target_file import TARGET_FILE, ArchiveSpec, DeviceSpec, TargetFile, read_target_file
from portwright.target_rules import check_gates
from portwright.toolchain import Toolchain

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What executes a plan's models: a runtime of the stage library, and the device it is asked for."""

    runtime: str
    device: str
    toolchains: tuple[str, ...]
    """Searched in order for what runs on it."""
    asked: str = ""
    """The device of `--device`; empty where something stands in for one."""
    identity: str = ""
    """Digest of that device's driver and machine; empty where nobody looked."""

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Computed once: a plan looks things up by what executes them twenty times over."""
        return hash((self.runtime, self.device, self.toolchains, self.asked, self.identity))


@dataclass(frozen=True)
class Target:
    """A target with its folder and its recipes' paths, by name."""

    file: TargetFile
    folder: Path
    recipe_paths: dict[str, Path]

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def toolchains(self) -> tuple[str, ...]:
        """Every toolchain that it runs stages in, its devices' own included; each once."""
        return self.toolchains_on(None)

    def toolchains_on(self, system: str | None) -> tuple[str, ...]:
        """Those that a system can have: without the devices that aren't for it. None for every system."""
        devices = [spec for spec in self.file.devices.values() if system is None or system in spec.systems]
        return tuple(dict.fromkeys([*self.file.toolchains, *(name for spec in devices for name in spec.toolchains)]))

    @cached_property
    def stand_in(self) -> Execution:
        """What executes where no device is asked for."""
        spec = self.file.runtime
        return Execution(runtime=spec.name, device=spec.device, toolchains=self.file.toolchains)

    @cached_property
    def emulator(self) -> Execution | None:
        """What executes the compiled model in software, if anything does."""
        spec = self.file.emulator
        return Execution(runtime=spec.name, device=spec.device, toolchains=self.file.toolchains) if spec else None

    def device(self, name: str) -> DeviceSpec:
        """The device that `--device` names; UsageError where the target has none of that name."""
        if name not in self.file.devices:
            known = suggestion(name, self.file.devices) if self.file.devices else "it declares none"
            raise UsageError(f"target {self.name!r} has no device {name!r}", hint=known)
        return self.file.devices[name]

    def execution(self, device: str | None, identity: str = "") -> Execution:
        """What executes: the device asked for, with the identity that it has on this machine, or a stand-in."""
        if device is None:
            return self.stand_in
        spec = self.device(device)
        toolchains = (*spec.toolchains, *(name for name in self.file.toolchains if name not in spec.toolchains))
        return Execution(
            runtime=spec.runtime, device=spec.device, toolchains=toolchains, asked=device, identity=identity
        )


class Catalog:
    """All targets, recipes, toolchains and stages of a checkout. Recipes are parsed when they are asked for."""

    def __init__(self, targets: Path, toolchains: dict[str, Toolchain], library: StageLibrary) -> None:
        self.stage_library = library
        self.toolchains = toolchains
        self._serving: dict[tuple[str, Execution], Toolchain] = {}
        self.targets = {path.parent.name: self._target(path) for path in sorted(targets.glob(f"*/{TARGET_FILE}"))}
        self._recipe_targets = self._unique_recipes()

    def _target(self, path: Path) -> Target:
        file = read_target_file(path)
        if file.name != path.parent.name:
            raise RecipeError(f"target {path}: name: is {file.name!r}, but its folder is {path.parent.name!r}")
        for place, name in _toolchain_names(file):
            if name not in self.toolchains:
                hint = suggestion(name, self.toolchains)
                raise RecipeError(f"target {path}: {place}: unknown toolchain {name!r}", hint=hint)
        recipes = {recipe.stem: recipe for recipe in sorted((path.parent / "recipes").glob("*.json"))}
        if file.default_recipe not in recipes:
            hint = suggestion(file.default_recipe, recipes)
            raise RecipeError(f"target {path}: default_recipe: unknown recipe {file.default_recipe!r}", hint=hint)
        return Target(file, path.parent, recipes)

    def _unique_recipes(self) -> dict[str, Target]:
        owners: dict[str, Target] = {}
        for target in self.targets.values():
            for name, path in target.recipe_paths.items():
                if name == ALL:
                    raise RecipeError(f"recipe {path}: --recipe={ALL} means every recipe", hint="rename it")
                if name in owners:
                    raise RecipeError(
                        f"recipe {path}: the name {name!r} is taken",
                        why=f"{owners[name].recipe_paths[name]} has it too, and results are kept by recipe name",
                        hint="rename one of them",
                    )
                owners[name] = target
        return owners

    def select(self, names: str) -> list[Target]:
        """Targets of `--target`: one, several with commas, or `all`; UsageError for an unknown one."""
        asked = [name.strip() for name in names.split(",") if name.strip()]
        if not asked:
            raise UsageError("--target is empty", hint=f"one of {', '.join(self.targets)}, several with commas, or all")
        if asked == [ALL]:
            return list(self.targets.values())
        for name in asked:
            if name not in self.targets:
                raise UsageError(f"unknown target {name!r}", hint=suggestion(name, [*self.targets, ALL]))
        return [self.targets[name] for name in dict.fromkeys(asked)]

    def recipes_for(self, targets: list[Target], asked: str | None) -> list[tuple[Target, Recipe]]:
        """The recipes to run: each target's default one, all of theirs, or the one named or given as a file."""
        if asked is None:
            return [(target, self._load(target.recipe_paths[target.file.default_recipe], target)) for target in targets]
        if asked == ALL:
            return [(target, self._load(path, target)) for target in targets for path in target.recipe_paths.values()]
        if not asked.strip():
            raise UsageError(
                "--recipe is empty", hint="a recipe's name, all, a file, or leave it out for the default one"
            )
        if asked.endswith(".json") or "/" in asked:
            return [self._from_file(user_path(asked), targets)]
        owner = self._recipe_targets.get(asked)
        if owner is None:
            raise UsageError(f"unknown recipe {asked!r}", hint=suggestion(asked, self._recipe_targets))
        if owner not in targets:
            others = ", ".join(target.name for target in targets)
            hint = f"--target={owner.name}"
            raise UsageError(f"recipe {asked!r} is for target {owner.name!r}, not for {others}", hint=hint)
        return [(owner, self._load(owner.recipe_paths[asked], owner))]

    def _from_file(self, path: Path, targets: list[Target]) -> tuple[Target, Recipe]:
        if path.is_dir():
            raise UsageError(f"--recipe={path} is a folder", hint="give one JSON file in it, or a recipe's name")
        if not path.is_file():
            raise UsageError(
                f"no recipe file {path}", hint=f"the name of a recipe also serves: {', '.join(self._recipe_targets)}"
            )
        recipe = load_recipe(path, self.stage_library)
        for target in targets:
            if target.name == recipe.target:
                self._check_recipe(recipe, target)
                return target, recipe
        if recipe.target not in self.targets:
            hint = suggestion(recipe.target, self.targets)
            raise RecipeError(f"recipe {path}: target: unknown target {recipe.target!r}", hint=hint)
        raise UsageError(f"recipe {path} is for target {recipe.target!r}", hint=f"--target={recipe.target}")

    def _load(self, path: Path, target: Target) -> Recipe:
        recipe = load_recipe(path, self.stage_library)
        if recipe.name != path.stem:
            why = "recipes of the repository are found by their file's name"
            raise RecipeError(f"recipe {path}: name: is {recipe.name!r}, but the file is {path.name}", why=why)
        if recipe.target != target.name:
            raise RecipeError(f"recipe {path}: target: is {recipe.target!r}, but it lies under {target.name!r}")
        self._check_recipe(recipe, target)
        return recipe

    def _check_recipe(self, recipe: Recipe, target: Target) -> None:
        for index, (declaration, _) in enumerate(steps(recipe, self.stage_library)):
            try:
                if not self.missing_archive(declaration, target):
                    self.toolchain_for(declaration.name, target.stand_in)
            except RecipeError as error:
                raise RecipeError(
                    f"recipe {recipe.path}: stages[{index}]: {error.message}", why=error.why, hint=error.hint
                ) from None
        check_gates(recipe, target.file)

    def check_archives(self, target: Target) -> None:
        """RecipeError for a vendor archive that is there for one of the target's toolchains, and can't be taken."""
        for name in target.toolchains:
            for fault in self.toolchains[name].faults:
                raise fault

    def missing_archive(self, declaration: Declaration, target: Target) -> ArchiveSpec | None:
        """The vendor archive that a stage can't do without and that isn't there; None if nothing is missing.

        RecipeError where the target declares no archive of that name.
        """
        name = declaration.stage.archive
        if name is None:
            return None
        declared = {archive.name: archive for archive in target.file.archives}
        if name not in declared:
            raise RecipeError(
                f"stage {declaration.name!r} needs the vendor archive {name!r}",
                why=f"target {target.name!r} declares none of that name",
                hint="add it under [[archives]] in target.toml",
            )
        spec = declared[name]
        present = {archive.name for archive in self.toolchains[spec.toolchain].archives}
        return None if name in present else spec

    def needs(self, stage: str, execution: Execution) -> tuple[str, ...]:
        """Distributions that a stage takes, the runtime's included."""
        declaration = self.stage_library.get(stage).stage
        extra = self.stage_library.runtime_packages(execution.runtime) if declaration.runtime else ()
        return (*declaration.needs, *(name for name in extra if name not in declaration.needs))

    def toolchain_for(self, stage: str, execution: Execution) -> Toolchain:
        """The first of the toolchains that holds all that the stage needs; RecipeError if none does."""
        asked = stage, execution
        if asked not in self._serving:
            self._serving[asked] = self._find_toolchain(stage, execution)
        return self._serving[asked]

    def _find_toolchain(self, stage: str, execution: Execution) -> Toolchain:
        needs = self.needs(stage, execution)
        for name in execution.toolchains:
            if self.toolchains[name].can_run(needs):
                return self.toolchains[name]
        raise RecipeError(
            f"no toolchain of the target can run stage {stage!r}",
            why=f"it needs {', '.join(needs)}, which none of {', '.join(execution.toolchains)} holds together",
            hint="choose another stage, or list a toolchain that has them in target.toml",
        )


def _toolchain_names(file: TargetFile) -> Iterator[tuple[str, str]]:
    """Every toolchain that a target names, with the place where it does."""
    yield from (("toolchains", name) for name in file.toolchains)
    for device, spec in file.devices.items():
        yield from ((f"devices.{device}.toolchains", name) for name in spec.toolchains)
    yield from ((f"archives.{archive.name}.toolchain", archive.toolchain) for archive in file.archives)
