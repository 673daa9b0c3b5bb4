"""Ranges that no scale can hold: a quantizer would take them, and its model answer with NaN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from stagelib.api import StageError

if TYPE_CHECKING:
    from numpy.typing import NDArray


HINT = "surgery, before this stage, replaces an infinite mask constant; else the float model is broken"


def refuse_activations(ranges: Mapping[str, NDArray[np.float32]]) -> None:
    """StageError where a tensor's range [2], its smallest and its largest number on the texts, is not finite."""
    names = [name for name, pair in ranges.items() if not np.isfinite(pair).all()]
    if names:
        more = f" and {len(names) - 1} more tensors" if len(names) > 1 else ""
        raise StageError(
            f"on the calibration texts {names[0]}{more} held NaN or infinity: that can't be quantized",
            hint=HINT,
        )


def refuse_weight(name: str, low: NDArray[Any], high: NDArray[Any]) -> None:
    """StageError where the smallest or the largest number of a weight, or of a channel of it, is not finite."""
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise StageError(f"the weight {name} holds NaN or infinity: that can't be quantized", kind="model")
