"""A stage, its parameters and what fills its roles, made into a call with its key. Nothing is asked or written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from portwright.calls import CallInput, StageCall
from portwright.checked import invalid
from portwright.digests import canonical_json, canonical_object, canonical_string, digest_text
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
    modules: tuple[str, ...]
    needs: tuple[str, ...]
    roles: tuple[tuple[str, bool], ...]
    """Its inputs, and whether it can't do without."""
    members: Mapping[str, Any]
    """What is the same in every key of it: the stage, its sources' digest, the toolchain's."""
    texts: Mapping[str, str]
    """The same in canonical JSON."""


@dataclass(frozen=True)
class _Filled:
    """Parameters with their defaults, and in canonical JSON."""

    params: Mapping[str, Any]
    text: str


class CallMaker:
    """Makes stage calls for one kind of engine; equal calls are one call, however many recipes want it."""

    def __init__(self, catalog: Catalog, engine: EngineKind) -> None:
        self._catalog = catalog
        self._engine: EngineKind = engine
        self._toolchain_digests: dict[str, str] = {}
        self._served: dict[tuple[str, Execution], _Served] = {}
        self._filled: dict[tuple[Any, ...], _Filled] = {}
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
        inputs = {role: roles[role] for role, required in served.roles if required or role in roles}
        shape = (recipe.input.batch_size, recipe.input.sequence_length) if served.declaration.stage.shaped else ()
        asked = (id(served), shape, repr(given) if given else "")
        same = (asked, *inputs, *[item.identity for item in inputs.values()])
        made = self._calls.get(same)
        if made is None:
            filled = self._filled.get(asked)
            if filled is None:
                params = _filled(served.declaration, recipe, execution, given)
                filled = self._filled[asked] = _Filled(params, canonical_json(params))
            made = self._calls[same] = self._new_call(execution, served, filled, inputs)
        return made

    def _new_call(
        self, execution: Execution, served: _Served, filled: _Filled, inputs: Mapping[str, CallInput]
    ) -> StageCall:
        stage_of = served.declaration.stage
        identities = {role: given.identity for role, given in inputs.items()}
        texts = {
            **served.texts,
            "params": filled.text,
            "inputs": canonical_object({role: canonical_string(identity) for role, identity in identities.items()}),
        }
        components = {
            **served.members,
            "params": filled.params,
            "inputs": identities,
        }
        identity = execution.identity if stage_of.runtime else ""
        if identity and stage_of.kind == "artifact":
            # A measurement's key is the same on every device: its history is filed by device.
            components["device"] = identity
            texts["device"] = canonical_string(identity)
        return StageCall(
            # The digest of canonical JSON of the components, put together from what many keys have in common.
            key=digest_text(canonical_object(texts)),
            stage=served.declaration.name,
            kind=stage_of.kind,
            network=stage_of.network,
            params=filled.params,
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
        found = self._served.get(asked)
        if found is None:
            declaration = self._catalog.stage_library.get(stage)
            stage_of = declaration.stage
            toolchain = self._catalog.toolchain_for(stage, execution)
            modules = stage_modules(stage, execution.runtime if stage_of.runtime else None)
            members = {
                "scheme": KEY_SCHEME,
                "stage": declaration.name,
                "source": self._catalog.stage_library.source_digest(*modules),
                "toolchain": self._toolchain_digest(toolchain),
            }
            found = self._served[asked] = _Served(
                declaration=declaration,
                toolchain=toolchain,
                modules=modules,
                needs=self._catalog.needs(stage, execution),
                roles=(
                    *((role, True) for role in stage_of.inputs),
                    *((role, False) for role in stage_of.optional_inputs),
                ),
                members=members,
                texts={name: canonical_json(value) for name, value in members.items()},
            )
        return found

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
