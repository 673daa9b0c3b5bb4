"""A stage, its parameters and what fills its roles, made into a call with its key. Nothing is asked or written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from portwright.calls import CallInput, StageCall
from portwright.checked import invalid
from portwright.digests import digest_json
from portwright.engines.base import EngineKind
from portwright.recipe import WHAT, Recipe
from portwright.stages import Declaration
from portwright.target import Catalog, Execution
from portwright.toolchain import Toolchain

KEY_SCHEME = 1


@dataclass(frozen=True, kw_only=True)
class _Served:
    """A stage, and what serves it where it executes."""

    declaration: Declaration
    toolchain: Toolchain
    toolchain_digest: str
    modules: tuple[str, ...]
    source: str
    """Digest of the modules and of what they import."""
    needs: tuple[str, ...]


class CallMaker:
    """Makes stage calls for one kind of engine; equal calls are one call, however many recipes want it."""

    def __init__(self, catalog: Catalog, engine: EngineKind) -> None:
        self._catalog = catalog
        self._engine: EngineKind = engine
        self._toolchain_digests: dict[str, str] = {}
        self._served: dict[tuple[str, Execution], _Served] = {}
        self._calls: dict[tuple[Any, ...], StageCall] = {}

    def call(
        self,
        recipe: Recipe,
        execution: Execution,
        stage: str,
        given: Mapping[str, Any],
        roles: Mapping[str, CallInput],
    ) -> StageCall:
        """One stage call: parameters filled in, roles resolved, key computed."""
        served = self._serve(stage, execution)
        stage_of = served.declaration.stage
        inputs: dict[str, CallInput] = {role: roles[role] for role in stage_of.inputs}
        inputs |= {role: roles[role] for role in stage_of.optional_inputs if role in roles}
        shape = (recipe.input.batch_size, recipe.input.sequence_length) if stage_of.shaped else ()
        asked = repr(given) if given else ""
        same = (stage, execution, shape, asked, *((role, item.identity) for role, item in inputs.items()))
        if same not in self._calls:
            self._calls[same] = self._new_call(recipe, execution, served, given, inputs)
        return self._calls[same]

    def _new_call(
        self,
        recipe: Recipe,
        execution: Execution,
        served: _Served,
        given: Mapping[str, Any],
        inputs: Mapping[str, CallInput],
    ) -> StageCall:
        stage_of = served.declaration.stage
        params = _filled(served.declaration, recipe, execution, given)
        components = {
            "scheme": KEY_SCHEME,
            "stage": served.declaration.name,
            "source": served.source,
            "params": params,
            "inputs": {role: given_input.identity for role, given_input in inputs.items()},
            "toolchain": served.toolchain_digest,
        }
        identity = execution.identity if stage_of.runtime else ""
        if identity and stage_of.kind == "artifact":
            # A measurement's key is the same on every device: its history is filed by device.
            components["device"] = identity
        return StageCall(
            key=digest_json(components),
            stage=served.declaration.name,
            kind=stage_of.kind,
            network=stage_of.network,
            params=params,
            inputs=inputs,
            toolchain=served.toolchain,
            device=execution.asked if stage_of.runtime else "",
            identity=identity,
            modules=served.modules,
            versions_of=served.needs,
            components=components,
        )

    def _serve(self, stage: str, execution: Execution) -> _Served:
        """What every call of a stage has in common, looked up once; RecipeError where no toolchain can run it."""
        asked = stage, execution
        if asked not in self._served:
            declaration = self._catalog.stage_library.get(stage)
            toolchain = self._catalog.toolchain_for(stage, execution)
            modules = stage_modules(stage, execution.runtime if declaration.stage.runtime else None)
            self._served[asked] = _Served(
                declaration=declaration,
                toolchain=toolchain,
                toolchain_digest=self._toolchain_digest(toolchain),
                modules=modules,
                source=self._catalog.stage_library.source_digest(*modules),
                needs=self._catalog.needs(stage, execution),
            )
        return self._served[asked]

    def _toolchain_digest(self, toolchain: Toolchain) -> str:
        if toolchain.name not in self._toolchain_digests:
            self._toolchain_digests[toolchain.name] = toolchain.digest(self._engine)
        return self._toolchain_digests[toolchain.name]


def stage_modules(stage: str, runtime: str | None) -> tuple[str, ...]:
    """The modules a call of a stage runs: the runner, the stage, and the runtime, which is found by its name."""
    return (
        "stagelib.__main__",
        f"stagelib.stages.{stage}",
        *((f"stagelib.runtimes.{runtime}",) if runtime else ()),
    )


def _filled(
    declaration: Declaration, recipe: Recipe, execution: Execution, given: Mapping[str, Any]
) -> Mapping[str, Any]:
    """A stage's parameters: those given, and what the planner knows; RecipeError for one that doesn't fit."""
    filled = dict(given)
    if declaration.stage.shaped:
        filled |= {"batch_size": recipe.input.batch_size, "sequence_length": recipe.input.sequence_length}
    if declaration.stage.runtime:
        filled |= {"runtime": execution.runtime, "device": execution.device}
    try:
        return declaration.fill(filled)
    except ValidationError as error:
        raise invalid(error, recipe.path, WHAT, declaration.parameter_names, (declaration.name,)) from None
