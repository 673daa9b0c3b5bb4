"""Importing what is big."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Import within this: PyTorch and transformers make hundreds of thousands of objects that all stay, and looking for
    garbage among them takes a fifth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # Whatever looks for garbage later needn't look at them either.
        gc.freeze()
        if enabled:
            gc.enable()
