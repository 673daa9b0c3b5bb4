"""What the parameters of `quantize_nncf` refuse before a model is read."""

from __future__ import annotations

import pytest

from stagelib.stages.quantize_nncf import Params


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
