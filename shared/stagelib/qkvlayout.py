"""How Q, K and V lie in one packed tensor: head by head, and in each head Q, then K, then V."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

PARTS = 3


def pack(parts: Sequence[NDArray[Any]], heads: int) -> NDArray[Any]:
    """Q, K and V, each [..., heads * head_size], to [..., heads * 3 * head_size], head by head."""
    lead = parts[0].shape[:-1]
    return np.stack([part.reshape(*lead, heads, -1) for part in parts], axis=-2).reshape(*lead, -1)


def unpack(packed: NDArray[Any], heads: int) -> tuple[NDArray[Any], ...]:
    """The three that lie in [..., heads * 3 * head_size]: from the operator's layout, not from what `pack` does."""
    size = packed.shape[-1] // (heads * PARTS)
    columns = np.arange(heads * size)
    places = columns // size * PARTS * size + columns % size
    return tuple(packed[..., places + part * size] for part in range(PARTS))
