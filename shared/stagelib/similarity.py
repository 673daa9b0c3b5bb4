"""Sentence embeddings from hidden states, and how alike two models' embeddings are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stagelib.api import StageError

Floats = NDArray[np.float64]
Pooling = Literal["mean", "cls", "max"]
_HIDDEN_STATES = 3
_EMBEDDINGS = 2


def embed(outputs: Mapping[str, NDArray[Any]], mask: NDArray[np.int64], pooling: Pooling = "mean") -> Floats:
    """Embeddings [batch, hidden]: a model's first hidden states pooled, else its first vectors as they are.

    `mask` is [batch, sequence], 1 where a token is text. StageError where no output fits.
    """
    for array in outputs.values():
        if array.ndim == _HIDDEN_STATES:
            return pool(array.astype(np.float64), mask, pooling)
    for array in outputs.values():
        if array.ndim == _EMBEDDINGS:
            return array.astype(np.float64)
    shapes = {name: array.shape for name, array in outputs.items()}
    raise StageError(f"no output is [batch, sequence, hidden] or [batch, hidden]: {shapes}", kind="model")


def pool(hidden: Floats, mask: NDArray[np.int64], pooling: Pooling) -> Floats:
    """Pool [batch, sequence, hidden] over the text's tokens to [batch, hidden]."""
    if pooling == "cls":
        # The first token of the text, which is not the first of the row where padding stands on the left.
        first = mask.argmax(axis=1)
        chosen: Floats = hidden[np.arange(len(hidden)), first]
        return chosen
    kept = mask[..., None].astype(np.float64)
    if pooling == "max":
        masked = np.where(kept > 0, hidden, -np.inf).max(axis=1)
        highest: Floats = np.where(kept.any(axis=1), masked, 0.0)
        return highest
    # Padding may hold anything, NaN as well: zero times NaN would be NaN.
    total: Floats = np.where(kept > 0, hidden, 0.0).sum(axis=1)
    mean: Floats = total / np.maximum(kept.sum(axis=1), 1.0)
    return mean


def normalized(embeddings: Floats) -> Floats:
    """Rows of [n, hidden] at length 1."""
    with np.errstate(invalid="ignore"):  # infinity by infinity is NaN, as it should be
        lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
        unit: Floats = embeddings / np.maximum(lengths, np.finfo(np.float64).tiny)
    return unit


def cosines(left: Floats, right: Floats) -> Floats:
    """Cosine [n] of each row of `left` with that of `right`, both [n, hidden]; NaN where a value is not finite."""
    products: Floats = (normalized(left) * normalized(right)).sum(axis=1)
    clipped: Floats = np.clip(products, -1.0, 1.0)
    return clipped


def unrelated_pairs(embeddings: Floats) -> float | None:
    """Mean cosine of each row with its neighbour: what two texts with nothing in common score. None below two rows."""
    if len(embeddings) < 2:  # noqa: PLR2004  # a pair
        return None
    return float(cosines(embeddings, np.roll(embeddings, 1, axis=0)).mean())


def centred_mean(left: Floats, right: Floats) -> float | None:
    """Mean cosine after the mean of `right` is taken off both: what is common to all texts flatters the raw one.

    None below two rows, or where a value is not finite.
    """
    if len(right) < 2:  # noqa: PLR2004  # a mean of one is the row itself
        return None
    centre = right.mean(axis=0)
    mean = float(cosines(left - centre, right - centre).mean())
    return mean if np.isfinite(mean) else None


def nearest_agreement(left: Floats, right: Floats) -> float | None:
    """Share of rows whose nearest other row is the same one in both; None below three rows or where not finite."""
    if len(right) < 3 or not np.isfinite(left).all():  # noqa: PLR2004  # of two, each is the other's nearest
        return None
    return float((_nearest(left) == _nearest(right)).mean())


def _nearest(embeddings: Floats) -> NDArray[np.int64]:
    unit = normalized(embeddings)
    products = unit @ unit.T
    np.fill_diagonal(products, -np.inf)
    nearest: NDArray[np.int64] = products.argmax(axis=1)
    return nearest


def summarize(cosines: Floats) -> dict[str, Any]:
    """Mean, minimum and every cosine of [n]; mean and minimum are NaN where one cosine is."""
    return {
        "mean": float(cosines.mean()),
        "min": float(cosines.min()),
        "samples": len(cosines),
        "per_sample": listed(cosines.round(6)),
    }


def listed(values: NDArray[Any]) -> list[int | float | None]:
    """A vector [n] as JSON: there is no NaN or infinity in it, so such a value is null."""
    return [value if finite else None for value, finite in zip(values.tolist(), np.isfinite(values), strict=True)]
