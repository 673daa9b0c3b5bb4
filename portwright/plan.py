"""Recipe to plan: the graph of stage calls. Pure: no engine, no network, nothing written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from portwright.call_maker import CallMaker
from portwright.calls import CallInput, RecipePlan, StageCall
from portwright.chain import Made, check_chain, executable
from portwright.engines.kinds import EngineKind
from portwright.errors import ModelError, RecipeError
from portwright.recipe import Recipe, Step, steps
from portwright.sources import LocalSource, ModelSource
from portwright.stages import Declaration
from portwright.target import Catalog, Execution, Target
from portwright.target_file import ArchiveSpec

if TYPE_CHECKING:
    from portwright.devices import Access


class Planner:
    """Turns recipes into plans for one kind of engine."""

    def __init__(self, catalog: Catalog, engine: EngineKind) -> None:
        self._catalog = catalog
        self._engine: EngineKind = engine
        self.call = CallMaker(catalog, engine).call

    def plan(
        self,
        target: Target,
        recipe: Recipe,
        model: ModelSource,
        data: LocalSource | None,
        device: str | None = None,
        access: Access | None = None,
    ) -> RecipePlan:
        """The plan of a recipe; `model` and `data` may stand in for the recipe's own.

        `access` is the device as it is on this machine: without it the plan is for no driver, and finds nothing that
        was made on the device.
        UsageError for a device that the target doesn't declare; RecipeError for a vendor archive of its toolchains that
        is there and can't be taken.
        """
        self._catalog.check_archives(target)
        execution = target.execution(device, access.identity_digest if access else "")
        return _RecipePlanner(self, target, recipe, execution).plan(model, data)

    def formats(self, execution: Execution) -> tuple[str, ...]:
        """Formats of models that the executing runtime loads."""
        return self._catalog.stage_library.runtime_formats(execution.runtime)

    def missing_archive(self, declaration: Declaration, target: Target) -> ArchiveSpec | None:
        """The vendor archive that a stage can't do without and that isn't there."""
        return self._catalog.missing_archive(declaration, target)

    @property
    def engine(self) -> EngineKind:
        return self._engine

    def steps(self, recipe: Recipe) -> list[Step]:
        """The recipe's own stages, checked."""
        return steps(recipe, self._catalog.stage_library)


def baseline(stand_in: Execution) -> Execution:
    """What executes the fp32 reference: ONNX Runtime on the CPU, for every target."""
    return Execution(runtime="onnxruntime", device="CPU", toolchains=stand_in.toolchains)


def _check_length(recipe: Recipe, model: ModelSource) -> None:
    """ModelError for texts longer than the model takes: `tokenize` would say so, of a model from the hub it alone."""
    asked, most = recipe.input.sequence_length, model.longest_text
    if most is not None and asked > most:
        raise ModelError(
            f"model {model.text} takes at most {most} tokens, and recipe {recipe.name!r} asks for {asked}",
            hint="lower `input.sequence_length` in the recipe",
        )


class _RecipePlanner:
    """The roles of one recipe, filled from the front to the end."""

    def __init__(self, planner: Planner, target: Target, recipe: Recipe, execution: Execution) -> None:
        self._planner = planner
        self._target = target
        self._recipe = recipe
        self._stand_in = target.stand_in
        self._execution = execution
        self._roles: dict[str, CallInput] = {}
        self._rows: dict[str, CallInput] = {}

    def plan(self, model: ModelSource, data: LocalSource | None) -> RecipePlan:
        recipe = self._recipe
        _check_length(recipe, model)
        self._roles["source"] = self._source(model)
        self._roles["evaluation_data"] = self._data(recipe.evaluation.data, data)
        if recipe.calibration:
            self._roles["calibration_data"] = self._data(recipe.calibration.data, data)
        if recipe.accuracy:
            self._roles["accuracy_data"] = self._data(recipe.accuracy.data, data)
        batches = self._call("tokenize", self._tokenize_params())
        self._roles["batches"] = CallInput(call=batches)
        chain, made, left_out = self._chain()
        return RecipePlan(
            recipe=recipe,
            target=self._target,
            model=model,
            local_data=data,
            engine=self._planner.engine,
            execution=self._execution,
            source=self._roles["source"],
            batches=batches,
            chain=tuple(call for _, call in chain),
            left_out=left_out,
            **self._ends(chain, made),
        )

    def _call(self, stage: str, given: Mapping[str, Any]) -> StageCall:
        return self._planner.call(self._recipe, self._stand_in, stage, given, self._roles)

    def _source(self, model: ModelSource) -> CallInput:
        if model.local is not None:
            return CallInput(local=model.local)
        try:
            return CallInput(call=self._call(model.stage, model.params))
        except RecipeError as error:
            raise ModelError(f"no model {model.text!r}", why=error.message, hint=error.hint) from None

    def _data(self, name: str, local: LocalSource | None) -> CallInput:
        """The rows of a data set, which several roles may share."""
        if name not in self._rows:
            self._rows[name] = CallInput(call=self._read(name, local))
        return self._rows[name]

    def _read(self, name: str, local: LocalSource | None) -> StageCall:
        """What reads a data set; a local file takes its place, and needn't have what only accuracy is judged on."""
        recipe, data = self._recipe, self._recipe.data[name]
        if local is None:
            return self._call("fetch_data", data.model_dump(mode="json"))
        needed = {recipe.evaluation.data, *([recipe.calibration.data] if recipe.calibration else [])}
        given = {"fields": list(data.fields), "samples": data.samples, "optional": name not in needed}
        roles = {"local": CallInput(local=local)}
        return self._planner.call(self._recipe, self._stand_in, "read_data", given, roles)

    def _tokenize_params(self) -> dict[str, Any]:
        calibration, evaluation, accuracy = self._recipe.calibration, self._recipe.evaluation, self._recipe.accuracy
        return {
            "evaluation_field": evaluation.field,
            "evaluation_samples": evaluation.samples,
            "calibration_field": calibration.field if calibration else "",
            "calibration_samples": calibration.samples if calibration else 0,
            "accuracy_fields": [accuracy.premise, accuracy.hypothesis] if accuracy else [],
            "accuracy_train_samples": accuracy.train_samples if accuracy else 0,
            "accuracy_samples": accuracy.samples if accuracy else 0,
        }

    def _chain(self) -> tuple[list[tuple[Declaration, StageCall]], list[Made], tuple[ArchiveSpec, ...]]:
        """Call the recipe's stages one after the other.

        The first model is what embeddings are held against; its shape fixed, it is the fp32 reference for latency.
        """
        chain: list[tuple[Declaration, StageCall]] = []
        left_out: dict[str, ArchiveSpec] = {}
        wanted = []
        for declaration, given in self._planner.steps(self._recipe):
            if missing := self._planner.missing_archive(declaration, self._target):
                left_out[missing.name] = missing
            else:
                wanted.append((declaration, given))
        made = check_chain(self._recipe, [declaration for declaration, _ in wanted])
        for declaration, given in wanted:
            call = self._call(declaration.name, given)
            chain.append((declaration, call))
            self._roles["model"] = CallInput(call=call)
            if "reference" not in self._roles:
                self._roles["exported"] = CallInput(call=call)
                self._roles["reference"] = CallInput(call=self._call("fix_shape", {}))
        return chain, made, tuple(left_out.values())

    def _ends(self, chain: Sequence[tuple[Declaration, StageCall]], made: Sequence[Made]) -> dict[str, Any]:
        """What follows the recipe's own stages. The package is the same whatever device is asked for."""
        indices = {
            execution: executable(self._recipe, made, self._planner.formats(execution))
            for execution in dict.fromkeys((self._execution, self._stand_in))
        }

        def loaded_by(execution: Execution) -> StageCall:
            return chain[indices[execution]][1]

        def call(stage: str, execution: Execution, given: Mapping[str, Any]) -> StageCall:
            roles = {**self._roles, "executable": CallInput(call=loaded_by(execution))}
            return self._planner.call(self._recipe, execution, stage, given, roles)

        emulate = None
        emulator, spec = self._target.emulator, self._target.file.emulator
        if emulator and spec and not self._execution.asked and made[-1].format in self._planner.formats(emulator):
            given = {"samples": spec.samples, "budget_s": spec.budget_s}
            roles = {**self._roles, "executable": CallInput(call=loaded_by(self._stand_in))}
            emulate = self._planner.call(self._recipe, emulator, "emulate", given, roles)
        embeddings = call("embed", self._execution, {})
        reference = self._planner.call(
            self._recipe, baseline(self._stand_in), "embed", {}, {**self._roles, "executable": self._roles["exported"]}
        )
        judged = {"embeddings": CallInput(call=embeddings), "reference_embeddings": CallInput(call=reference)}
        return {
            "executed": loaded_by(self._execution),
            "executed_format": str(made[indices[self._execution]].format),
            "package": call("package", self._stand_in, {}),
            "benchmark": call("benchmark", self._execution, self._recipe.benchmark),
            "embeddings": embeddings,
            "evaluate": self._planner.call(self._recipe, self._stand_in, "evaluate", {}, {**self._roles, **judged}),
            "emulate": emulate,
            "diagnose": None if self._execution.asked else call("diagnose", self._execution, {}),
        }
