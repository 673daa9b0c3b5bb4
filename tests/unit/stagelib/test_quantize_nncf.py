"""What the parameters of `quantize_nncf` refuse before a model is read, and the order its texts come in."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from stagelib.api import Call
from stagelib.stages.quantize_nncf import Params, _Calibration


@pytest.mark.parametrize("alpha", [-0.5, 1.01, -2.0, float("nan")])
def test_an_alpha_is_a_share_or_off(alpha: float) -> None:
    with pytest.raises(ValueError, match="smooth_quant_alpha"):
        Params(batch_size=1, sequence_length=8, smooth_quant_alpha=alpha)


@pytest.mark.parametrize("alpha", [None, -1.0, 0.0, 0.8, 1.0])
def test_what_nncf_takes_is_passed_on(alpha: float | None) -> None:
    assert Params(batch_size=1, sequence_length=8, smooth_quant_alpha=alpha).smooth_quant_alpha == alpha


def test_no_samples_is_no_calibration() -> None:
    with pytest.raises(ValueError, match="samples"):
        Params(batch_size=1, sequence_length=8, samples=0)


def test_texts_come_once_each_without_padding_the_shortest_first(tmp_path: Path) -> None:
    lengths = [3, 1, 4, 2]
    mask = np.array([[1] * length + [0] * (5 - length) for length in lengths])
    rows = {"input_ids": mask * np.array([[10], [20], [30], [40]]), "attention_mask": mask}
    call = Call(stage="q", inputs={}, output=tmp_path, scratch=tmp_path, events=io.StringIO())
    calibration = _Calibration(call, rows, ["input_ids"], 4, 1, trim=True)
    assert [feed["input_ids"].tolist() for feed in map(calibration.__getitem__, range(len(calibration)))] == [
        [[20]],
        [[40, 40]],
        [[10, 10, 10]],
        [[30, 30, 30, 30]],
    ]


def test_one_pass_is_the_default() -> None:
    assert Params(batch_size=1, sequence_length=8).one_pass
