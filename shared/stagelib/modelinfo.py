"""`model.json`: what a directory that holds a model says of itself, so that stages need not guess."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from stagelib.api import StageError

FILE = "model.json"


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One input or output. A dimension is a number, or a name where it is free."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Format and borders of a model. `files` lists every file one ships, the entry first."""

    format: Literal["onnx", "openvino"]
    entry: str
    files: tuple[str, ...]
    precision: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

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
        return cls(**{**raw, "files": tuple(raw["files"])})
