"""A stage, its parameters and what fills its roles, made into a call with its key. Nothing is asked or written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from portwright.calls import CallInput, StageCall
from portwright.checked import invalid
from portwright.digests import canonical_json, digest_text
from portwright.engines.kinds import EngineKind
from portwright.recipe import WHAT, Recipe
from portwright.stages import Declaration
from portwright.target import Catalog, Execution
from portwright.toolchain import Toolchain

KEY_SCHEME = 1


@dataclass(frozen=True, kw_only=True)
class _Params:
    """A stage's parameters, and their canonical JSON: most calls of many recipes are given what others are."""

    values: Mapping[str, Any]
    text: str


@dataclass(frozen=True, kw_only=True, eq=False)
class _Served:
    """A stage, and what serves it where it executes. One for each: equal is what is the same."""

    declaration: Declaration
    execution: Execution
    toolchain: Toolchain
    modules: tuple[str, ...]
    needs: tuple[str, ...]
    components: Mapping[str, Any]
    """What the keys of all its calls have in common: all but inputs and parameters."""
    texts: tuple[str, str]
    """Canonical JSON of these, up to the inputs and after the parameters."""
    params: dict[tuple[tuple[int, ...], str], _Params] = field(default_factory=dict)
    """By shape and by what was given."""

    def filled(self, recipe: Recipe, shape: tuple[int, ...], given: Mapping[str, Any], asked: str) -> _Params:
        """The parameters of a call; `asked` is `given` as a text. RecipeError for one that doesn't fit."""
        found = self.params.get((shape, asked))
        if found is None:
            values = _filled(self.declaration, recipe, self.execution, given)
            found = self.params[shape, asked] = _Params(values=values, text=canonical_json(values))
        return found


class CallMaker:
    """Makes stage calls for one kind of engine; equal calls are one call, however many recipes want it."""

    def __init__(self, catalog: Catalog, engine: EngineKind) -> None:
        self._catalog = catalog
        self._engine: EngineKind = engine
        self._toolchain_digests: dict[str, str] = {}
        self._served: dict[tuple[str, Execution], _Served] = {}
        self._shared: dict[tuple[str, str, Execution | None], _Served] = {}
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
        served = self._served.get((stage, execution)) or self._serve(stage, execution)
        stage_of = served.declaration.stage
        inputs: dict[str, CallInput] = {role: roles[role] for role in stage_of.inputs}
        for role in stage_of.optional_inputs:
            if role in roles:
                inputs[role] = roles[role]
        shape = (recipe.input.batch_size, recipe.input.sequence_length) if stage_of.shaped else ()
        asked = repr(given) if given else ""
        same = (served, shape, asked, *inputs, *[item.identity for item in inputs.values()])
        call = self._calls.get(same)
        if call is None:
            params = served.filled(recipe, shape, given, asked)
            call = self._calls[same] = _new_call(served, params, inputs)
        return call

    def _serve(self, stage: str, execution: Execution) -> _Served:
        """What every call of a stage has in common, looked up once; RecipeError where no toolchain can run it.

        A stage that executes no model is the same for all targets that run it in the same toolchain.
        """
        runtime = self._catalog.stage_library.get(stage).stage.runtime
        toolchain = self._catalog.toolchain_for(stage, execution)
        shared = stage, toolchain.name, execution if runtime else None
        if shared not in self._shared:
            self._shared[shared] = self._new_served(stage, execution, toolchain)
        served = self._served[stage, execution] = self._shared[shared]
        return served

    def _new_served(self, stage: str, execution: Execution, toolchain: Toolchain) -> _Served:
        library = self._catalog.stage_library
        declaration = library.get(stage)
        modules = stage_modules(stage, execution.runtime if declaration.stage.runtime else None)
        components: dict[str, Any] = {
            "scheme": KEY_SCHEME,
            "stage": stage,
            "source": library.source_digest(*modules),
            "toolchain": self._toolchain_digest(toolchain),
        }
        if declaration.stage.runtime and execution.identity and declaration.stage.kind == "artifact":
            # A measurement's key is the same on every device: its history is filed by device.
            components["device"] = execution.identity
        return _Served(
            declaration=declaration,
            execution=execution,
            toolchain=toolchain,
            modules=modules,
            needs=self._catalog.needs(stage, execution),
            components=components,
            texts=_texts(components),
        )

    def _toolchain_digest(self, toolchain: Toolchain) -> str:
        if toolchain.name not in self._toolchain_digests:
            self._toolchain_digests[toolchain.name] = toolchain.digest(self._engine)
        return self._toolchain_digests[toolchain.name]


def _new_call(served: _Served, params: _Params, inputs: Mapping[str, CallInput]) -> StageCall:
    stage_of = served.declaration.stage
    identities = {role: given.identity for role, given in inputs.items()}
    before, after = served.texts
    # Canonical JSON of all components, put together from pieces: most are the same for many calls. Roles are names of
    # the stage library's, and identities digests: neither holds what JSON would escape.
    named = ",".join([f'"{role}":"{identities[role]}"' for role in sorted(identities)])
    text = f'{before}"inputs":{{{named}}},"params":{params.text}{after}'
    return StageCall(
        key=digest_text(text),
        stage=served.declaration.name,
        kind=stage_of.kind,
        network=stage_of.network,
        params=params.values,
        inputs=inputs,
        toolchain=served.toolchain,
        device=served.execution.asked if stage_of.runtime else "",
        identity=served.execution.identity if stage_of.runtime else "",
        modules=served.modules,
        versions_of=served.needs,
        components={**served.components, "params": params.values, "inputs": identities},
    )


def _texts(components: Mapping[str, Any]) -> tuple[str, str]:
    """Canonical JSON of a key's components, without inputs and parameters: what sorts before these, and after."""
    first = {name: value for name, value in components.items() if name < "inputs"}
    last = {name: value for name, value in components.items() if name > "params"}
    assert len(first) + len(last) == len(components)
    before = canonical_json(first)[:-1]
    return f"{before}," if first else before, f",{canonical_json(last)[1:]}"


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
