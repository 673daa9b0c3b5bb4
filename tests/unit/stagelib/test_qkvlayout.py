"""Packed QKV: where each number of Q, K and V lies, and that products by packed weights are the packed products."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stagelib.qkvlayout import PARTS, pack, unpack

heads = st.integers(1, 5)
sizes = st.integers(1, 4)
rows = st.integers(1, 6)


def parts(lead: tuple[int, ...], width: int) -> tuple[NDArray[Any], ...]:
    numbers = np.arange(PARTS * int(np.prod(lead)) * width)
    return tuple(numbers.reshape(PARTS, *lead, width))


def test_each_head_holds_its_q_k_and_v() -> None:
    q, k, v = np.array([1, 2, 3, 4]), np.array([11, 12, 13, 14]), np.array([21, 22, 23, 24])
    assert pack((q, k, v), 2).tolist() == [1, 2, 11, 12, 21, 22, 3, 4, 13, 14, 23, 24]


@given(heads, sizes, rows)
def test_what_was_packed_is_unpacked(number: int, size: int, lead: int) -> None:
    given = parts((lead,), number * size)
    found = unpack(pack(given, number), number)
    assert all((left == right).all() for left, right in zip(found, given, strict=True))


@given(heads, sizes, rows)
def test_a_product_by_packed_weights_holds_all_three_by_head(number: int, size: int, inputs: int) -> None:
    weights = parts((inputs,), number * size)
    source = np.arange(2 * inputs).reshape(2, inputs)
    # As the operator reads it: [tokens, heads, 3, size].
    packed = (source @ pack(weights, number)).reshape(2, number, PARTS, size)
    for part, weight in enumerate(weights):
        assert (packed[:, :, part] == (source @ weight).reshape(2, number, size)).all()
