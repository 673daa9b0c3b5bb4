"""Weights that are quantized a block at a time: as if whole, by each axis, whatever their shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stagelib import bigweights
from stagelib.bigweights import Weight, symmetric_scales

OFFSET = 64
SHAPES = [(7, 5), (1, 9), (9, 1), (4, 3, 2), (2, 40)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bigweights, "BLOCK", 12)


def stored(folder: Path, numbers: NDArray[Any]) -> Weight:
    path = folder / "weights"
    path.write_bytes(bytes(OFFSET) + numbers.tobytes() + b"what comes after")
    return Weight(path=path, offset=OFFSET, shape=numbers.shape, dtype=numbers.dtype)


def numbers(shape: tuple[int, ...], dtype: Any = np.float32) -> NDArray[Any]:
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("shape", SHAPES)
def test_blocks_are_the_weight_in_whole_rows(shape: tuple[int, ...], tmp_path: Path) -> None:
    whole = numbers(shape)
    blocks = list(stored(tmp_path, whole).blocks())
    assert np.array_equal(np.concatenate(blocks), whole)
    assert all(block.size <= max(12, whole[0].size) for block in blocks)


@pytest.mark.parametrize("shape", SHAPES)
def test_extremes_are_those_of_the_whole(shape: tuple[int, ...], tmp_path: Path) -> None:
    whole = numbers(shape)
    weight = stored(tmp_path, whole)
    for axis in (None, *range(len(shape))):
        others = tuple(index for index in range(len(shape)) if index != axis)
        low, high = weight.extremes(axis)
        assert np.array_equal(low, whole.min(axis=others))
        assert np.array_equal(high, whole.max(axis=others))


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize("shape", SHAPES)
def test_integers_are_those_of_the_whole(shape: tuple[int, ...], kind: Any, tmp_path: Path) -> None:
    whole = numbers(shape)
    weight = stored(tmp_path, whole)
    for axis in (None, *range(len(shape))):
        channels = shape[axis] if axis is not None else 1
        # Too small a scale for some, so that integers are cut off at both ends.
        scale = np.linspace(1e-5, 0.02, channels, dtype=np.float32)
        zero = np.arange(channels).astype(kind)
        along = [-1 if index == axis else 1 for index in range(len(shape))]
        spread, middle = scale.reshape(along), zero.astype(np.float32).reshape(along)
        limits = np.iinfo(kind)
        expected = np.clip((whole / spread).round() + middle, limits.min, limits.max).astype(kind)
        found = np.concatenate(list(weight.quantized(axis, scale, zero)))
        assert found.dtype == kind
        assert np.array_equal(found, expected)


def test_a_scale_makes_the_largest_number_the_largest_integer() -> None:
    low, high = np.array([-2.0, 0.5, -1.0], np.float32), np.array([1.0, 4.0, -0.5], np.float32)
    scale, middle = symmetric_scales(low, high, (-127, 127), None)
    assert scale.dtype == np.float32
    assert np.allclose(scale * 127, [2.0, 4.0, 1.0])
    assert middle.tolist() == [0, 0, 0]
    assert symmetric_scales(low, high, (0, 255), None)[1].tolist() == [128] * 3


@pytest.mark.parametrize(("kind", "tiny"), [(np.float32, 1e-39), (np.float16, 1e-7)])
def test_a_channel_of_nothing_has_the_scale_one(kind: Any, tiny: float) -> None:
    low, high = np.array([0, -tiny, -1], kind), np.array([0, tiny, 1], kind)
    scale, middle = symmetric_scales(low, high, (0, 255), None)
    assert scale.dtype == kind
    assert scale[:2].tolist() == [1, 1]
    assert middle.tolist() == [0, 0, 128]
    assert 0 < scale[2] < 1


def test_a_range_is_never_smaller_than_asked() -> None:
    low, high = np.array([0, -1], np.float32), np.array([0, 1], np.float32)
    scale, _ = symmetric_scales(low, high, (-127, 127), 0.5)
    assert np.allclose(scale * 127, [0.5, 1.0])
