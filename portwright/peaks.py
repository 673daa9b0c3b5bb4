"""How much memory stages took, by stage, size of the model and of a batch: what the next run plans with.

The file may go any time.
"""

from __future__ import annotations

import contextlib
import math
import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from portwright.disk import storage_error
from portwright.locks import held

PEAKS = "peaks.json"
STEPS = 4
"""Sizes are told apart to a fourth of a doubling."""
FADING = 0.9
"""A peak is forgotten slowly: the same stage on the same model takes more for more texts."""
MARGIN = 1.15
_ADAPTER = TypeAdapter(dict[str, int])


@dataclass(frozen=True, kw_only=True)
class Size:
    """What the memory of a stage grows with."""

    model_bytes: int = 0
    """Of the largest model that it is given; 0 for none."""
    tokens: int = 0
    """In one batch of that model's, padding included; 0 where the model's shape is free."""

    def __str__(self) -> str:
        return "/".join(
            f"{round(STEPS * math.log2(size))}" if size else "none" for size in (self.model_bytes, self.tokens)
        )


class Peaks:
    """`peaks.json` of a host volume: stage and size to bytes. For one thread, the one that leads a run."""

    def __init__(self, root: Path) -> None:
        self._path = root / PEAKS
        self._known = self._read()
        self._fresh: dict[str, int] = {}

    def of(self, stage: str, size: Size) -> int | None:
        """Bytes to plan with for a stage at about that size; None where none has been seen."""
        peak = self._known.get(f"{stage}/{size}")
        return None if peak is None else int(peak * MARGIN)

    def saw(self, stage: str, size: Size, peak: int) -> None:
        """Take note of what a stage took, in bytes; 0, of a system that doesn't say, is no note."""
        if peak <= 0:
            return
        name = f"{stage}/{size}"
        self._known[name] = self._fresh[name] = max(peak, int(self._known.get(name, 0) * FADING))

    def save(self) -> None:
        """Write what was seen, beside what other runs wrote meanwhile; StoreError where the disk refuses."""
        if not self._fresh:
            return
        beside = self._path.with_name(f"{PEAKS}.{os.getpid()}")
        with held(self._path.with_suffix(".lock"), lambda: None):
            known = self._read() | self._fresh
            try:
                beside.write_bytes(_ADAPTER.dump_json(dict(sorted(known.items())), indent=1))
                beside.replace(self._path)
            except OSError as error:
                with contextlib.suppress(OSError):
                    beside.unlink(missing_ok=True)
                raise storage_error(self._path, error) from error
        self._fresh = {}

    def _read(self) -> dict[str, int]:
        try:
            return _ADAPTER.validate_json(self._path.read_bytes())
        except (OSError, ValidationError):
            return {}
