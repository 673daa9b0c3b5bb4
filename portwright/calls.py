"""What a plan is made of: stage calls, what fills their roles, and all calls of one recipe. Values only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from portwright.engines.kinds import EngineKind
from portwright.recipe import Recipe
from portwright.sources import LocalSource, ModelSource
from portwright.target import Execution, Target
from portwright.target_file import ArchiveSpec
from portwright.toolchain import Toolchain


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


@dataclass(frozen=True, kw_only=True, slots=True)
class StageCall:
    """A stage with everything it needs: the unit that is cached and run."""

    key: str
    stage: str
    kind: Literal["artifact", "measurement"]
    network: bool
    params: Mapping[str, Any]
    inputs: Mapping[str, CallInput]
    toolchain: Toolchain
    device: str
    """The device of `--device` that the call is given; empty for none."""
    identity: str
    """Digest of that device's driver and machine; empty for none, or where nobody looked."""
    versions_of: tuple[str, ...]
    modules: tuple[str, ...]
    """Modules of the stage library that run: the key holds a digest of them and of what they import."""
    components: Mapping[str, Any] = field(repr=False)
    """What the key is the digest of, for `invoke explain`."""


@dataclass(frozen=True, kw_only=True)
class RecipePlan:
    """All calls of one recipe for one model, in an order in which they can run."""

    recipe: Recipe
    target: Target
    model: ModelSource
    local_data: LocalSource | None
    engine: EngineKind
    execution: Execution
    source: CallInput
    batches: StageCall
    chain: tuple[StageCall, ...]
    """The recipe's own stages; the last one's model ships."""
    left_out: tuple[ArchiveSpec, ...]
    """Vendor archives that aren't there: the stages that need them are not in the chain."""
    executed: StageCall
    """The stage whose model is executed: the last of the chain that the executing runtime loads."""
    executed_format: str
    package: StageCall
    benchmark: StageCall
    embeddings: StageCall
    evaluate: StageCall
    emulate: StageCall | None
    diagnose: StageCall | None
    """What runs only for a model that failed: which of its layers lose most. None where it executes on a device."""

    @cached_property
    def calls(self) -> tuple[StageCall, ...]:
        """Each call once, dependencies first; texts before the export, since what is wrong with them shows sooner."""
        ends = [self.batches, self.package, self.evaluate, *([self.emulate] if self.emulate else []), self.benchmark]
        return tuple(in_order(ends))

    @cached_property
    def make_calls(self) -> tuple[StageCall, ...]:
        """Those of the calls that what ships is made by: nothing is measured or evaluated."""
        return tuple(in_order([self.batches, self.package]))


def in_order(ends: Iterable[StageCall]) -> list[StageCall]:
    """Calls and all they depend on, each once, dependencies first."""
    found: dict[str, StageCall] = {}

    def add(call: StageCall) -> None:
        for given in call.inputs.values():
            if given.call is not None and given.call.key not in found:
                add(given.call)
        found[call.key] = call

    for end in ends:
        if end.key not in found:
            add(end)
    return list(found.values())


def unique(calls: Iterable[StageCall]) -> list[StageCall]:
    """Equal calls are one call."""
    return list({call.key: call for call in calls}.values())
