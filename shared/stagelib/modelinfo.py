"""`model.json`: what a directory that holds a model says of itself, so that stages need not guess."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stagelib.api import Format, StageError

FILE = "model.json"


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One input or output. A dimension is a number, or a name where it is free."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One compiled form of the model: its files, the entry first, and the chips and releases it is good for."""

    entry: str
    files: tuple[str, ...]
    built_for: Mapping[str, Any]
    """What the compiler was told and is: chip, architecture, compute capabilities, SDK version."""


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Format and borders of a model. `files` lists every file one ships, the entry first."""

    format: Format
    entry: str
    files: tuple[str, ...]
    precision: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    variants: tuple[Variant, ...] = ()
    """What was compiled, one for each chip or group of chips; `entry` and `files` cover them too."""

    def write(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> ModelInfo:
        """Read `model.json` of `folder`; StageError where there is none."""
        try:
            raw: dict[str, Any] = json.loads((folder / FILE).read_text())
        except FileNotFoundError:
            raise StageError(f"{folder} holds no {FILE}: the stage before this one didn't make a model") from None
        for side in ("inputs", "outputs"):
            raw[side] = tuple(Tensor(**{**tensor, "shape": tuple(tensor["shape"])}) for tensor in raw[side])
        variants = tuple(
            Variant(**{**variant, "files": tuple(variant["files"])}) for variant in raw.get("variants", ())
        )
        return cls(**{**raw, "files": tuple(raw["files"]), "variants": variants})
