"""What quantize_qdq is told: parameters that make no sense, and those that recipes rely on."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stagelib.api import Call
from stagelib.batches import first
from stagelib.stages.quantize_qdq import Params, _feeds


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"samples": 0}, "samples"),
        ({"minimum_range": -1.0}, "minimum_range"),
        ({"activation_type": "int8", "weight_type": "uint8"}, "take int8 weights"),
        ({"op_types": ()}, "op_types is empty"),
        ({"op_types": ("*", "MatMul")}, "stands alone"),
    ],
)
def test_params_that_make_no_sense_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Params(**given)


def test_full_batches_hold_no_text_beyond_those_that_are_reported(tmp_path: Path) -> None:
    rows = {name: np.arange(10)[:, None] for name in ("input_ids", "attention_mask")}
    call = Call(stage="q", inputs={}, output=tmp_path, scratch=tmp_path, events=io.StringIO())
    feeds = _feeds(call, first(rows, 3), ["input_ids"], 2)
    assert [feed["input_ids"].ravel().tolist() for feed in feeds] == [[0, 1], [2, 0]]
