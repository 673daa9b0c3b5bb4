"""Big weights of a graph that lie in a file beside it: read a block at a time, and quantized so.

What is computed is what ONNX Runtime's quantizer computes, to the last bit, for whole matrices instead of for one
channel after the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

BLOCK = 1 << 20
"""Numbers read at once, unless one row alone has more."""


@dataclass(frozen=True, kw_only=True)
class Weight:
    """A weight in a file."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def mapped(self) -> NDArray[Any]:
        """Its numbers in their shape, mapped and not read."""
        return np.memmap(self.path, self.dtype, mode="r", offset=self.offset, shape=self.shape)

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Its numbers, in runs of whole rows: [n, *shape[1:]], n rows of the first dimension each."""
        row = math.prod(self.shape[1:])
        rows = max(BLOCK // max(row, 1), 1)
        with self.path.open("rb") as file:
            # Read and not mapped: pages of a mapping count as this process's memory until the system wants them.
            file.seek(self.offset)
            for start in range(0, self.shape[0], rows):
                count = min(rows, self.shape[0] - start)
                yield np.fromfile(file, self.dtype, count * row).reshape(count, *self.shape[1:])

    def extremes(self, axis: int | None) -> tuple[NDArray[Any], NDArray[Any]]:
        """Smallest and largest number: of each channel along `axis`, [shape[axis]], or of all, []."""
        others = tuple(index for index in range(len(self.shape)) if index != axis)
        found = [(block.min(axis=others), block.max(axis=others)) for block in self.blocks()]
        lows, highs = zip(*found, strict=True)
        if axis == 0:
            return np.concatenate(lows), np.concatenate(highs)
        return np.min(lows, axis=0), np.max(highs, axis=0)

    def quantized(self, axis: int | None, scale: NDArray[Any], zero_point: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """Its integers, of the zero point's type, block after block; scale and zero point have a number a channel."""
        limits = np.iinfo(zero_point.dtype)
        along = [1] * len(self.shape)
        if axis is not None:
            along[axis] = -1
        scale, middle = scale.reshape(along), zero_point.astype(np.float32).reshape(along)
        start = 0
        for block in self.blocks():
            own = slice(start, start + len(block)) if axis == 0 else slice(None)
            numbers = block.astype(np.float32, copy=False) / scale[own]
            np.round(numbers, out=numbers)
            numbers += middle[own]
            np.clip(numbers, limits.min, limits.max, out=numbers)
            yield numbers.astype(zero_point.dtype)
            start += len(block)


def find(tensor: onnx.TensorProto, folder: Path) -> Weight:
    """The weight that an initializer refers to, in a file that ONNX Runtime wrote to `folder`."""
    import onnx

    entries = {entry.key: entry.value for entry in tensor.external_data}
    return Weight(
        path=folder / entries["location"],
        offset=int(entries.get("offset", 0)),
        shape=tuple(tensor.dims),
        dtype=np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)),
    )


def symmetric_scales(
    low: NDArray[Any], high: NDArray[Any], limits: tuple[int, int], least_range: float | None
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Scale and zero point of each channel from its smallest and largest number, the middle at zero.

    `limits` are the least and the greatest integer, `least_range` the least distance of `low` and `high`. As
    `compute_scale_zp` of onnxruntime.quantization has it, which takes one channel at a time.
    """
    low, high = np.minimum(low, low.dtype.type(0)), np.maximum(high, high.dtype.type(0))
    if least_range is not None:
        high = np.maximum(high, low + low.dtype.type(least_range))
    largest = np.maximum(np.abs(low), np.abs(high)).astype(np.float64)
    scale = 2 * largest / (limits[1] - limits[0])
    kind = np.finfo(high.dtype)
    stored = scale.astype(high.dtype)
    # A scale that this type can't hold: the channel is zero throughout.
    nothing = stored < kind.smallest_subnormal if high.dtype == np.float16 else scale < kind.tiny
    middle = np.round((limits[0] + limits[1]) / 2)
    return np.where(nothing, high.dtype.type(1), stored), np.where(nothing, 0.0, middle)
