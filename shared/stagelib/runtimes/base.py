"""The protocol behind which every vendor runtime stands.

A runtime is a module of this package with `PACKAGES`, `load` and `executed_on`; recipes and targets call it by the
module's name.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from stagelib.api import Format

if TYPE_CHECKING:
    from numpy.typing import NDArray

ExecutedOn = Literal["device", "emulator", "cpu"]
Options = Mapping[str, str | int]
"""Session settings beyond a runtime's default ones, in the runtime's own words."""
NO_OPTIONS: Options = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Placed:
    """How much of the graph is in one place (an execution provider, a device or a compiler)."""

    where: str
    nodes: int
    ops: Mapping[str, int] = field(default_factory=dict)
    """Nodes by operator, where they are known."""
    compute: float | None = None
    """Share of the graph's multiplications and additions, 0 to 1, where it is known."""


class Session(Protocol):
    """A loaded model, ready to run."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the model's inputs, in its order."""

    @property
    def device_name(self) -> str:
        """What executes, as the machine or its driver calls it; an emulator says that it is one."""

    @property
    def settings(self) -> Mapping[str, str | int | None]:
        """What the runtime was told, for the record."""

    def run(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name, in the model's order, for arrays of the model's input shapes."""

    def placement(self) -> tuple[Placed, ...]:
        """Where the graph's nodes are, as the runtime itself reports it."""


class Runtime(Protocol):
    """What a module of this package offers."""

    PACKAGES: tuple[str, ...]
    """Distributions that the toolchain's lock must hold."""
    FORMATS: tuple[Format, ...]
    """Formats of models that it loads."""

    def load(self, folder: Path, *, device: str, threads: int | None) -> Session:
        """Load the model that `model.json` of `folder` names. `threads=None` takes every CPU this process may use."""

    def executed_on(self, device: str) -> ExecutedOn:
        """What a run on `device` really runs on."""


class Tunable(Runtime, Protocol):
    """A runtime that offers session settings to choose from."""

    def load(self, folder: Path, *, device: str, threads: int | None, options: Options = ...) -> Session:
        """As every runtime's; `options` go before what the runtime says by default."""

    def candidates(self, device: str, threads: int) -> Mapping[str, Options]:
        """Settings that are worth a try beside the default ones, by a name for people; empty where none is known."""


def tunable(runtime: Runtime) -> Tunable | None:
    """The runtime, if it offers settings."""
    return cast("Tunable", runtime) if hasattr(runtime, "candidates") else None


def load_with(runtime: Runtime, folder: Path, device: str, threads: int, options: Options) -> Session:
    """Load a model with settings that the runtime offered; without any, every runtime does."""
    chosen = tunable(runtime) if options else None
    if chosen is None:
        return runtime.load(folder, device=device, threads=threads)
    return chosen.load(folder, device=device, threads=threads, options=options)


def find_runtime(name: str) -> Runtime:
    """The runtime of that name."""
    return cast("Runtime", importlib.import_module(f"{__package__}.{name}"))


def places(session: Session) -> list[dict[str, Any]]:
    """A session's placement as JSON."""
    return listed(session.placement())


def listed(placement: Iterable[Placed]) -> list[dict[str, Any]]:
    """A placement as JSON."""
    return [asdict(placed) for placed in placement]
