"""What the performance suite says of its samples."""

from __future__ import annotations

import pytest

from benchmarks.figures import Figure, markdown


def test_a_limit_is_on_the_ratio_where_something_stands_beside() -> None:
    alone = Figure(name="plan", unit="s", ours=[0.4, 0.6, 0.5], limit=0.5)
    assert (alone.value, alone.ratio, alone.held) == (0.5, None, True)
    beside = Figure(name="calibrate", unit="CPU s", ours=[30.0, 31.0, 29.0], against=[50.0], beside="stock", limit=0.5)
    assert beside.ratio == pytest.approx(0.6)
    assert beside.held is False
    assert Figure(name="size", unit="MB", ours=[1.0]).held is None


def test_a_missed_limit_stands_in_the_table() -> None:
    missed = Figure(name="plan", unit="s", ours=[0.7, 0.9], limit=0.5, note="loaded")
    assert "| plan | 0.8 s (0.7 to 0.9) |  |  | 0.5 (missed) | loaded |" in markdown([missed])


def test_large_figures_are_whole_numbers() -> None:
    assert "| image | 1,034 MB |" in markdown([Figure(name="image", unit="MB", ours=[1034.4])])
    assert "| layers | 1 |" in markdown([Figure(name="layers", unit="", ours=[1])])


def test_nothing_measured_is_no_figure() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        Figure(name="plan", unit="s", ours=[])
