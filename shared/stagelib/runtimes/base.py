"""The protocol behind which every vendor runtime stands.

A runtime is a module of this package with `PACKAGES`, `load` and `executed_on`; recipes and targets call it by the
module's name.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from stagelib.api import Format

if TYPE_CHECKING:
    from numpy.typing import NDArray

ExecutedOn = Literal["device", "emulator", "cpu"]


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


def find_runtime(name: str) -> Runtime:
    """The runtime of that name."""
    return cast("Runtime", importlib.import_module(f"{__package__}.{name}"))


def places(session: Session) -> list[dict[str, Any]]:
    """A session's placement as JSON."""
    return listed(session.placement())


def listed(placement: Iterable[Placed]) -> list[dict[str, Any]]:
    """A placement as JSON."""
    return [asdict(placed) for placed in placement]
