"""Recipe to plan: the graph of stage calls and their keys. Pure: no engine, no network, nothing written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ValidationError

from portwright.checked import invalid
from portwright.digests import digest_json
from portwright.engines.base import EngineKind
from portwright.errors import ModelError, RecipeError
from portwright.recipe import WHAT, Recipe, SampleSpec, Step, steps
from portwright.sources import LocalSource, ModelSource
from portwright.stages import Declaration
from portwright.target import Catalog, Target
from portwright.toolchain import Toolchain
from stagelib.api import Format

KEY_SCHEME = 1


@dataclass(frozen=True, kw_only=True)
class CallInput:
    """What fills a role of a stage: another call's artifact, or something of the user's."""

    call: StageCall | None = None
    local: LocalSource | None = None

    @property
    def identity(self) -> str:
        """What enters the key: the other call's key, or the content's digest."""
        if self.call is not None:
            return self.call.key
        assert self.local is not None
        return self.local.digest


@dataclass(frozen=True, kw_only=True)
class StageCall:
    """A stage with everything it needs: the unit that is cached and run."""

    key: str
    stage: str
    kind: Literal["artifact", "measurement"]
    network: bool
    params: Mapping[str, Any]
    inputs: Mapping[str, CallInput]
    toolchain: Toolchain
    versions_of: tuple[str, ...]
    modules: tuple[str, ...]
    """Modules of the stage library that run: the key holds a digest of them and of what they import."""
    components: Mapping[str, Any] = field(repr=False)
    """What the key is the digest of, for `invoke explain`."""

    def upstream(self) -> Iterator[StageCall]:
        """Every call this one depends on, first ones first; a call may come more than once."""
        for given in self.inputs.values():
            if given.call is not None:
                yield from given.call.upstream()
                yield given.call


@dataclass(frozen=True, kw_only=True)
class RecipePlan:
    """All calls of one recipe for one model, in an order in which they can run."""

    recipe: Recipe
    target: Target
    model: ModelSource
    local_data: LocalSource | None
    engine: EngineKind
    source: CallInput
    batches: StageCall
    package: StageCall
    benchmark: StageCall
    evaluate: StageCall

    @property
    def calls(self) -> list[StageCall]:
        """Each call once, dependencies first; texts before the export, since what is wrong with them shows sooner."""
        ends = (self.batches, self.package, self.evaluate, self.benchmark)
        return unique(call for end in ends for call in (*end.upstream(), end))


def unique(calls: Iterable[StageCall]) -> list[StageCall]:
    """Equal calls are one call."""
    return list({call.key: call for call in calls}.values())


class Planner:
    """Turns recipes into plans for one kind of engine."""

    def __init__(self, catalog: Catalog, engine: EngineKind) -> None:
        self._catalog = catalog
        self._engine: EngineKind = engine
        self._toolchain_digests: dict[str, str] = {}
        self._source_digests: dict[tuple[str, ...], str] = {}

    def plan(self, target: Target, recipe: Recipe, model: ModelSource, data: LocalSource | None) -> RecipePlan:
        """The plan of a recipe; `model` and `data` may stand in for the recipe's own."""
        return _RecipePlanner(self, target, recipe).plan(model, data)

    def call(
        self, target: Target, recipe: Recipe, stage: str, given: Mapping[str, Any], roles: Mapping[str, CallInput]
    ) -> StageCall:
        """One stage call: parameters filled in, roles resolved, key computed."""
        declaration = self._catalog.stage_library.get(stage)
        stage_of = declaration.stage
        inputs: dict[str, CallInput] = {role: roles[role] for role in stage_of.inputs}
        inputs |= {role: roles[role] for role in stage_of.optional_inputs if role in roles}
        filled = dict(given)
        if stage_of.shaped:
            filled |= {"batch_size": recipe.input.batch_size, "sequence_length": recipe.input.sequence_length}
        if stage_of.runtime:
            filled |= {"runtime": target.file.runtime.name, "device": target.file.runtime.device}
        try:
            params = declaration.fill(filled)
        except ValidationError as error:
            raise invalid(error, recipe.path, WHAT, declaration.parameter_names, (stage,)) from None
        toolchain = self._catalog.toolchain_for(stage, target)
        modules = stage_modules(stage, target.file.runtime.name if stage_of.runtime else None)
        components = {
            "scheme": KEY_SCHEME,
            "stage": stage,
            "source": self._source_digest(modules),
            "params": params,
            "inputs": {role: given_input.identity for role, given_input in inputs.items()},
            "toolchain": self._toolchain_digest(toolchain),
        }
        return StageCall(
            key=digest_json(components),
            stage=stage,
            kind=stage_of.kind,
            network=stage_of.network,
            params=params,
            inputs=inputs,
            toolchain=toolchain,
            modules=modules,
            versions_of=self._catalog.needs(stage, target),
            components=components,
        )

    def _toolchain_digest(self, toolchain: Toolchain) -> str:
        if toolchain.name not in self._toolchain_digests:
            self._toolchain_digests[toolchain.name] = toolchain.digest(self._engine)
        return self._toolchain_digests[toolchain.name]

    def _source_digest(self, modules: tuple[str, ...]) -> str:
        if modules not in self._source_digests:
            self._source_digests[modules] = self._catalog.stage_library.source_digest(*modules)
        return self._source_digests[modules]

    def formats(self, target: Target) -> tuple[str, ...]:
        """Formats of models that the target's runtime loads."""
        return self._catalog.stage_library.runtime_formats(target.file.runtime.name)

    @property
    def engine(self) -> EngineKind:
        return self._engine

    def steps(self, recipe: Recipe) -> list[Step]:
        """The recipe's own stages, checked."""
        return steps(recipe, self._catalog.stage_library)


def stage_modules(stage: str, runtime: str | None) -> tuple[str, ...]:
    """The modules a call of a stage runs: the runner, the stage, and the runtime, which is found by its name."""
    return (
        "stagelib.__main__",
        f"stagelib.stages.{stage}",
        *((f"stagelib.runtimes.{runtime}",) if runtime else ()),
    )


class _RecipePlanner:
    """The roles of one recipe, filled from the front to the end."""

    def __init__(self, planner: Planner, target: Target, recipe: Recipe) -> None:
        self._planner = planner
        self._target = target
        self._recipe = recipe
        self._roles: dict[str, CallInput] = {}

    def plan(self, model: ModelSource, data: LocalSource | None) -> RecipePlan:
        recipe = self._recipe
        self._roles["source"] = self._source(model)
        self._roles["evaluation_data"] = CallInput(call=self._data(recipe.evaluation, data))
        if recipe.calibration:
            self._roles["calibration_data"] = CallInput(call=self._data(recipe.calibration, data))
        batches = self._call("tokenize", self._tokenize_params())
        self._roles["batches"] = CallInput(call=batches)
        self._chain()
        return RecipePlan(
            recipe=recipe,
            target=self._target,
            model=model,
            local_data=data,
            engine=self._planner.engine,
            source=self._roles["source"],
            batches=batches,
            package=self._call("package", {}),
            benchmark=self._call("benchmark", recipe.benchmark),
            evaluate=self._call("evaluate", {}),
        )

    def _call(self, stage: str, given: Mapping[str, Any], roles: Mapping[str, CallInput] | None = None) -> StageCall:
        return self._planner.call(self._target, self._recipe, stage, given, self._roles if roles is None else roles)

    def _source(self, model: ModelSource) -> CallInput:
        if model.local is not None:
            return CallInput(local=model.local)
        try:
            return CallInput(call=self._call(model.stage, model.params))
        except RecipeError as error:
            raise ModelError(f"no model {model.text!r}", why=error.message, hint=error.hint) from None

    def _data(self, spec: SampleSpec, local: LocalSource | None) -> StageCall:
        data = self._recipe.data[spec.data]
        if local is not None:
            return self._call(
                "read_data", {"fields": list(data.fields), "samples": data.samples}, {"local": CallInput(local=local)}
            )
        return self._call("fetch_data", data.model_dump(mode="json"))

    def _tokenize_params(self) -> dict[str, Any]:
        calibration, evaluation = self._recipe.calibration, self._recipe.evaluation
        return {
            "evaluation_field": evaluation.field,
            "evaluation_samples": evaluation.samples,
            "calibration_field": calibration.field if calibration else "",
            "calibration_samples": calibration.samples if calibration else 0,
        }

    def _chain(self) -> None:
        """Call the recipe's stages one after the other; the first model, its shape fixed, is the fp32 reference."""
        chain = self._planner.steps(self._recipe)
        check_chain(self._recipe, [declaration for declaration, _ in chain], self._planner.formats(self._target))
        for declaration, given in chain:
            self._roles["model"] = CallInput(call=self._call(declaration.name, given))
            if "reference" not in self._roles:
                self._roles["reference"] = CallInput(call=self._call("fix_shape", {}))


def check_chain(recipe: Recipe, chain: Sequence[Declaration], loadable: Sequence[str]) -> None:
    """RecipeError for stages that can't follow each other, or whose last model the target's runtime can't load."""
    model: Format | None = None
    fixed = False
    for index, declaration in enumerate(chain):
        stage = declaration.stage
        place = f"recipe {recipe.path}: stages[{index}]: {declaration.name!r}"
        if "model" in stage.inputs and model is None:
            raise RecipeError(f"{place} takes a model, and no stage before it makes one", hint="begin with `export`")
        if "model" not in stage.inputs and model is not None:
            raise RecipeError(f"{place} would throw away what the stages before it made", hint="it can only come first")
        if stage.takes is not None and stage.takes != model:
            raise RecipeError(
                f"{place} takes a model in {stage.takes} format, and is given {model}", hint="reorder them"
            )
        if "batches" in stage.inputs and recipe.calibration is None:
            hint = 'add "calibration": {"data": …, "field": …, "samples": …}'
            raise RecipeError(f"{place} needs calibration data", hint=hint)
        model, fixed = stage.makes, fixed or stage.fixes_shape
    if not fixed:
        raise RecipeError(f"recipe {recipe.path}: stages: none fixes the input shape", hint="add `fix_shape`")
    if model not in loadable:
        why = f"the target's runtime loads {', '.join(loadable)}"
        raise RecipeError(f"recipe {recipe.path}: stages: the last one makes {model}", why=why, hint="add a stage")
