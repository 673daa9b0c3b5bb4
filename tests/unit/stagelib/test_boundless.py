"""What no scale can hold is refused by name, and everything else is let through."""

from __future__ import annotations

import numpy as np
import pytest

from stagelib.api import StageError
from stagelib.boundless import refuse_activations, refuse_weight

FINE = np.array([-1, 2], np.float32)


@pytest.mark.parametrize("pair", [(-np.inf, 1), (0, np.inf), (np.inf, -np.inf), (np.nan, 1)])
def test_a_range_without_bounds_names_its_tensor(pair: tuple[float, float]) -> None:
    with pytest.raises(StageError, match="scores and 1 more tensors held NaN or infinity"):
        refuse_activations({"fine": FINE, "scores": np.array(pair, np.float32), "shares": np.array(pair, np.float32)})


def test_a_constant_activation_and_the_lowest_float_are_no_fault() -> None:
    refuse_activations({"constant": np.zeros(2, np.float32), "masked": np.array([np.finfo(np.float32).min, 0])})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_weight_with_a_broken_channel_is_refused(bad: float) -> None:
    refuse_weight("fine", FINE, FINE)
    with pytest.raises(StageError, match="the weight table holds NaN") as raised:
        refuse_weight("table", np.array([0, bad]), FINE)
    assert raised.value.kind == "model"
