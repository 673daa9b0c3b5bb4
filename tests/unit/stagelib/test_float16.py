"""On how many texts `float16` says that it measured ranges."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stagelib.api import Call
from stagelib.batches import CALIBRATION
from stagelib.stages.float16 import _feeds

TEXTS = 5


@pytest.mark.parametrize(
    ("batch", "asked", "batches", "used"),
    [(1, 4, 4, 4), (2, 4, 2, 4), (2, 9, 3, TEXTS), (8, 4, 1, TEXTS), (0, 2, 2, 2)],
)
def test_texts_are_counted_and_not_their_batches(
    batch: int, asked: int, batches: int, used: int, tmp_path: Path
) -> None:
    ids = np.arange(TEXTS * 3).reshape(TEXTS, 3)
    np.savez(tmp_path / CALIBRATION, input_ids=ids, attention_mask=np.ones_like(ids))
    shape = SimpleNamespace(dim=[SimpleNamespace(dim_value=batch)])
    given = SimpleNamespace(name="input_ids", type=SimpleNamespace(tensor_type=SimpleNamespace(shape=shape)))
    model: Any = SimpleNamespace(graph=SimpleNamespace(input=[given]))
    call = Call(stage="f", inputs={"batches": tmp_path}, output=tmp_path, scratch=tmp_path, events=io.StringIO())
    feeds, masks, count = _feeds(call, model, asked)
    assert (len(feeds), len(masks), count) == (batches, batches, used)
