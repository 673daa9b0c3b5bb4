"""What a stage is, what it is given and what it gives back.

A stage is a module of `stagelib.stages` with three names: `Params` (a frozen dataclass, its fields the recipe's keys),
`STAGE` (a `Stage`: what it takes and needs) and `run(call, params) -> Result`. The host reads the first two to check
recipes and to compute keys, so a stage module imports at its top nothing but the standard library, this module, and
modules of stagelib that keep to the same rule; what needs a vendor's package or numpy is imported inside `run`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

Role = Literal[
    "source",
    "model",
    "executable",
    "reference",
    "batches",
    "embeddings",
    "reference_embeddings",
    "calibration_data",
    "evaluation_data",
    "accuracy_data",
    "local",
]
GRANTED = "STAGELIB_THREADS"
"""The host's grant of processors; absent for a call that has the machine to itself."""
ErrorKind = Literal["stage", "model", "data"]
Format = Literal["onnx", "openvino", "qnn_context", "tensorrt_rtx", "directml", "vitisai"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The declaration of a stage: everything the host needs to plan it without running it."""

    summary: str
    """One line, shown by `invoke list` and on the live board."""
    inputs: tuple[Role, ...] = ()
    """Roles the planner must fill, each with one artifact or one local file or folder."""
    optional_inputs: tuple[Role, ...] = ()
    """Roles the planner fills where the recipe has them."""
    params: type
    takes: Format | None = None
    """Format of the `model` it is given."""
    makes: Format | None = None
    """Format of the model it makes; None for a stage that makes none."""
    rounds: bool = False
    """It brings an fp32 model to fewer bits. What was rounded once isn't rounded again: a recipe has one such stage."""
    fixes_shape: bool = False
    """Whether the model it makes has the recipe's fixed input shape, whatever it was given."""
    needs: tuple[str, ...] = ()
    """Distributions, by their names on the package index, that the toolchain's lock must hold."""
    kind: Literal["artifact", "measurement"] = "artifact"
    """A measurement's result is appended to a history; an artifact's output directory is stored under its key."""
    network: bool = False
    shaped: bool = False
    """The planner fills the parameters `batch_size` and `sequence_length` from the recipe's input shape."""
    runtime: bool = False
    """The planner fills `runtime` and `device` from the target, and adds the runtime's packages to `needs`."""
    archive: str | None = None
    """Name of a vendor archive of the target that the stage can't do without. Where it isn't there the stage is left
    out of the plan, and the result says so."""
    threads: int | None = None
    """Threads that it makes good use of; None for as many as it is given. It is kept to what its call is granted: what
    starts threads of its own asks `cpu_count`."""
    exclusive: bool = False
    """Nothing else of a run goes on beside it: what it says of time must be true."""
    memory_factor: float = 8.0
    """How much memory it takes, in sizes of the largest model it is given, until a run has seen what it takes. Together
    with `memory_mb`, in MiB, it decides what may run beside it; it limits nothing."""
    memory_mb: int = 600
    internal: bool = False
    """Placed by the planner; a recipe can't list it among its stages."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a stage learned: `facts` go into results and manifests, `samples` are the raw rows of a measurement.

    Three facts have a meaning of their own, and find their way into `result.json`: `placement` (a compiler's own, as
    `stagelib.runtimes.base.places` lists it), `variants` (what was compiled, and for which chips) and `not_built` (what
    could not be made here: `what`, `why`, `hint`).
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    samples: Sequence[Mapping[str, Any]] = ()


class StageError(Exception):
    """A failure whose cause is known. `kind` chooses the host's class of error; `hint` says what to do next."""

    def __init__(self, message: str, *, hint: str = "", kind: ErrorKind = "stage") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.kind: ErrorKind = kind


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a stage, with the directories it may touch."""

    stage: str
    inputs: Mapping[str, Path]
    """Role to directory (or file, for `local`), all read-only."""
    output: Path
    """Empty; its content becomes the artifact."""
    scratch: Path
    """Writable and thrown away."""
    cache: Path | None = None
    """A read-only HF_HOME the caller already has, for the stages with network."""
    fills: Path | None = None
    """A writable HF_HOME, merged into the caller's after success, for the stages with network."""
    events: IO[str] = field(default_factory=lambda: sys.stdout)
    passed: dict[str, tuple[Role, str]] = field(default_factory=dict)
    """Files of the output that are one of an input's, by `pass_on`."""

    def pass_on(self, name: str, role: Role = "model", source: str = "") -> None:
        """Have the output hold, as `name`, the file `source` (or `name`) of an input. It is not written: the host links
        it. It must be an artifact's, since nothing else stays as it is."""
        self.passed[name] = (role, source or name)

    def input(self, role: Role) -> Path:
        return self.inputs[role]

    def progress(self, done: float, text: str = "") -> None:
        """Report the share of the work that is done, 0 to 1, for the live board."""
        self._emit({"event": "progress", "done": round(min(max(done, 0.0), 1.0), 4), "text": text})

    def log(self, text: str) -> None:
        """Write one line to the stage's log and to the live board."""
        self._emit({"event": "log", "text": text})

    def _emit(self, event: Mapping[str, Any]) -> None:
        self.events.write(json.dumps(event) + "\n")
        self.events.flush()


def cpu_count() -> int:
    """Processors this process may run on, and no more than its call was granted."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    granted = os.environ.get(GRANTED, "")
    return min(allowed, max(1, int(granted))) if granted.isdecimal() else allowed
