"""`bundle.json`: what a bundle holds and what it must meet. The host writes it, the runner reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from stagelib.api import StageError

FILE = "bundle.json"
DEPLOY = "deploy"
REFERENCE = "reference"
BATCHES = "batches"
HOST_RESULT = "host-result.json"
REQUIREMENTS = "requirements.txt"
VERSION = 1
CPU = "cpu"
"""The name of what stands in for a device."""
UNPACK = "unpack the bundle again"
ASKED_OF_GATES = {"placement": ("on", "min_share", "stand_in", "may_stay_on_cpu"), "similarity": ("mean", "min")}
"""What the runner asks of the recipe's gates, whatever else these hold."""
_JSON_TYPES = {"str": str, "int": int, "tuple": list, "Mapping": dict}
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Something that `--device` names: a runtime of stagelib.runtimes, and the device in the runtime's own words."""

    name: str
    title: str
    runtime: str
    device: str


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One file of the bundle; size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Contents:
    """A bundle, as it describes itself."""

    version: int = VERSION
    recipe: str
    target: str
    platform: str
    system: str
    """`platform.system()` in lower case."""
    machines: tuple[str, ...]
    """`platform.machine()` in lower case, whichever of these the platform's Python says."""
    executions: tuple[Execution, ...]
    """The first one runs where `--device` is left out."""
    environment: str
    """Who makes the environment where no requirements.txt can; empty where there is one."""
    made_by: str
    """The stage that made the deployable."""
    gates: Mapping[str, Any]
    """The recipe's gates."""
    golden_min_cosine: Mapping[str, float]
    """Least cosine with the golden embeddings, for `cpu` and for `device`."""
    benchmark: Mapping[str, Any]
    """Parameters of the benchmark."""
    files: Mapping[str, FileEntry]

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def read(cls, folder: Path) -> Contents:
        """Read `bundle.json` of an unpacked bundle; StageError where there is none that this runner can read."""
        try:
            raw: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            hint = "run this in the folder that the bundle was unpacked to, or name it with --bundle"
            raise StageError(f"{folder} holds no {FILE}", hint=hint) from None
        except ValueError as error:
            raise StageError(f"{folder / FILE} is not JSON: {error}", hint=UNPACK) from None
        if isinstance(raw, dict) and raw.get("version") != VERSION:
            raise StageError(f"{FILE} is of version {raw.get('version')}, and this runner reads {VERSION}")
        try:
            return cls._from(_made(cls, raw))
        except (KeyError, TypeError) as error:
            raise StageError(f"{FILE} does not describe a bundle: {error}", hint=UNPACK) from None

    @classmethod
    def _from(cls, raw: Contents) -> Contents:
        """The parts in their own types; KeyError or TypeError for what the runner asks for later and isn't there."""
        for gate, names in ASKED_OF_GATES.items():
            for name in names:
                raw.gates[gate][name]
        for name in (CPU, "device"):
            raw.golden_min_cosine[name]
        if not raw.executions:
            raise TypeError("executions is empty")
        return replace(
            raw,
            machines=tuple(raw.machines),
            executions=tuple(_made(Execution, item) for item in raw.executions),
            files={name: _made(FileEntry, entry) for name, entry in raw.files.items()},
        )

    def execution(self, name: str | None) -> Execution:
        """What `--device` names, or the first one; StageError for an unknown name."""
        if name is None:
            return self.executions[0]
        for execution in self.executions:
            if execution.name == name:
                return execution
        known = ", ".join(execution.name for execution in self.executions)
        raise StageError(f"this bundle has no device {name!r}", hint=f"known: {known}")


def _made(kind: type[T], raw: Any) -> T:
    """One of the dataclasses above from JSON; TypeError for a field too many, too few, or of another type."""
    if not isinstance(raw, dict):
        raise TypeError(f"{kind.__name__} is {raw!r}")
    made = kind(**raw)
    for field in fields(made):  # type: ignore[arg-type] # all kinds are dataclasses
        expected = _JSON_TYPES[str(field.type).partition("[")[0]]
        if not isinstance(raw.get(field.name, getattr(made, field.name)), expected):
            raise TypeError(f"{field.name} is {raw[field.name]!r}")
    return made
