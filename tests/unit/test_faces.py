"""What a run prints of a failure: the reason first, and what to try for the gate that failed."""

from __future__ import annotations

from typing import Any

import pytest

from portwright import faces
from portwright.results import RunResult
from portwright.summary import wants_diagnosis
from support.sample_results import gate, result


class Told:
    """As much of a run's report as a failure is told from."""

    def __init__(self, found: RunResult) -> None:
        self.result = found


def failing(name: str) -> RunResult:
    return result(status="failed", gates=[gate(name, "failed", 1.0, 2.0, "more than asked")])


@pytest.mark.parametrize(
    ("name", "tries", "layers"),
    [
        ("similarity.mean", "weights per channel", True),
        ("accuracy", "weights per channel", True),
        ("latency_ratio", "quiet machine", False),
        ("size", "fewer bits", False),
    ],
)
def test_each_gate_has_its_own_remedy(name: str, tries: str, *, layers: bool) -> None:
    found = failing(name)
    said: Any = Told(found)
    reason, remedy, *rest = faces._failure(said)
    assert reason == f"FAILED {found.recipe}: gate {name}: more than asked"
    assert tries in remedy
    assert not rest
    assert wants_diagnosis(found) == layers
