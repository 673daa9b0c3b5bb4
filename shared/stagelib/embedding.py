"""Running a model over many texts for their embeddings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stagelib import batches, similarity
from stagelib.batches import Rows
from stagelib.runtimes.base import Session
from stagelib.similarity import Floats


def embed_rows(
    session: Session, rows: Rows, size: int, on_done: Callable[[int], None] = lambda _: None, *, trim: bool = False
) -> Floats:
    """Mean-pooled embeddings [texts, hidden] of all rows, padding masked, `size` a run; `on_done` counts texts.

    `trim` leaves padding at the end out, for a model whose sequence length is free.
    """
    count = batches.count(rows)
    found = []
    for start in range(0, count, size):
        batch = batches.take(rows, start, size)
        if trim:
            batch = batches.without_tail(batch)
        outputs = session.run(batches.feed(batch, session.inputs))
        found.append(similarity.embed(outputs, batch[batches.MASK]))
        on_done(min(start + size, count))
    joined: Floats = np.concatenate(found)[:count]
    return joined
