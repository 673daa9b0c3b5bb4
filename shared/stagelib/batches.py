"""The token batches that `tokenize` writes, cut to what a model takes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stagelib.api import StageError

CALIBRATION = "calibration.npz"
EVALUATION = "evaluation.npz"
MASK = "attention_mask"

Rows = Mapping[str, NDArray[np.int64]]


def read_rows(folder: Path, file: str) -> dict[str, NDArray[np.int64]]:
    """All rows of one split, each array int64 [rows, sequence_length]; StageError where there are none."""
    path = folder / file
    if not path.is_file():
        raise StageError(f"the batches hold no {file}", hint="name this data in the recipe", kind="data")
    with np.load(path) as arrays:
        rows = {name: np.ascontiguousarray(arrays[name], dtype=np.int64) for name in arrays.files}
    if not rows or not count(rows):
        raise StageError(f"{file} is empty: no text was tokenized into it", kind="data")
    if MASK not in rows:
        raise StageError(f"{file} has no {MASK}: padding can't be told from text", kind="data")
    return rows


def count(rows: Rows) -> int:
    """Number of rows."""
    return len(next(iter(rows.values())))


def calibration_facts(used: int, asked: int) -> dict[str, int | str]:
    """What a quantizer reports of its calibration; a note where there were fewer texts than asked."""
    facts: dict[str, int | str] = {"calibration_samples": used, "calibration_samples_asked": asked}
    if used < asked:
        facts["note"] = f"the data holds {used} calibration texts, and {asked} were asked for"
    return facts


def first(rows: Rows, number: int) -> dict[str, NDArray[np.int64]]:
    """The first rows: what `take` fills a last batch with is then among them."""
    return {name: array[:number] for name, array in rows.items()}


def take(rows: Rows, start: int, size: int) -> dict[str, NDArray[np.int64]]:
    """`size` rows from `start` on, going round at the end, so that a model of fixed batch size is always full."""
    chosen = np.arange(start, start + size) % count(rows)
    return {name: array[chosen] for name, array in rows.items()}


def feed(rows: Rows, inputs: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """The arrays a model takes, in its order; StageError where the batches lack one."""
    missing = [name for name in inputs if name not in rows]
    if missing:
        have = ", ".join(sorted(rows))
        raise StageError(
            f"the model takes {', '.join(missing)}, which the batches lack (they hold {have})", kind="model"
        )
    return {name: rows[name] for name in inputs}


def trimmed(rows: Rows, row: int) -> dict[str, NDArray[np.int64]]:
    """One row without its padding: [1, its real length], wherever the padding stands."""
    real = np.flatnonzero(rows[MASK][row])
    cut = slice(int(real[0]), int(real[-1]) + 1) if len(real) else slice(0, 1)
    return {name: array[row : row + 1, cut] for name, array in rows.items()}


def without_tail(rows: Rows) -> dict[str, NDArray[np.int64]]:
    """Rows without the columns at the end that are padding in every one: [n, the longest one's length].

    What stands before the text stays, or its tokens would be at other positions.
    """
    used = np.flatnonzero(rows[MASK].any(axis=0))
    return {name: array[:, : int(used[-1]) + 1 if len(used) else 1] for name, array in rows.items()}


def digest(rows: Rows) -> str:
    """SHA-256 over names, shapes and values, so that two measurements can be seen to have had the same input."""
    state = hashlib.sha256()
    for name in sorted(rows):
        state.update(f"{name}{rows[name].shape}".encode())
        state.update(np.ascontiguousarray(rows[name]).tobytes())
    return state.hexdigest()
