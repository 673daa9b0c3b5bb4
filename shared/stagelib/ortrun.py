"""One run of an ONNX Runtime session, whatever its execution provider, its errors in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stagelib.api import StageError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def answers(session: Any, outputs: Sequence[str], batch: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Outputs by name; StageError where ONNX Runtime or the driver beneath it fails."""
    try:
        return dict(zip(outputs, session.run(list(outputs), dict(batch)), strict=True))
    except failures() as error:
        raise StageError(f"ONNX Runtime failed while it ran the model: {error}") from error


def failures() -> tuple[type[Exception], ...]:
    """All that ONNX Runtime raises: its binding gives these no base of their own, and new releases add to them."""
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    own = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    return (RuntimeError, *own)
