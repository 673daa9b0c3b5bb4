"""What is said of a measurement beside its figures."""

from __future__ import annotations

from portwright.labels import timing_doubts
from support.sample_results import result


def test_a_quiet_measurement_raises_no_doubt() -> None:
    assert timing_doubts(result(verdict="valid", environment={"cpu_share": 0.99})) == []
    assert timing_doubts(result(verdict="valid", environment={})) == []


def test_milliseconds_of_a_busy_machine_are_called_that() -> None:
    [doubt] = timing_doubts(result(verdict="valid", environment={"cpu_share": 0.3}))
    assert doubt.startswith("other processes had the CPU for 70% of the time")


def test_an_unstable_measurement_is_called_that() -> None:
    [doubt] = timing_doubts(result(verdict="unstable", verdict_reason="too wide"))
    assert doubt == "the latency measurement is unstable: too wide"
