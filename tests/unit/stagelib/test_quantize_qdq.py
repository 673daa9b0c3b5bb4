"""What quantize_qdq is told: parameters that make no sense, and those that recipes rely on."""

from __future__ import annotations

from typing import Any

import pytest

from stagelib.stages.quantize_qdq import Params


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
