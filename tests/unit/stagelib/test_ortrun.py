"""ONNX Runtime's errors, which have no base of their own, in words."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from stagelib import ortrun
from stagelib.api import StageError


class EPFail(Exception):  # noqa: N818 - ONNX Runtime's own name
    """As the binding defines it."""


class Session:
    """Fails in the way it is told to."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def run(self, outputs: list[str], batch: dict[str, object]) -> list[object]:
        if self._error:
            raise self._error
        return [batch[name] for name in outputs]


@pytest.fixture(autouse=True)
def binding(monkeypatch: pytest.MonkeyPatch) -> None:
    package, capi = ModuleType("onnxruntime"), ModuleType("onnxruntime.capi")
    state = ModuleType("onnxruntime.capi.onnxruntime_pybind11_state")
    vars(state).update(EPFail=EPFail, something=3)
    vars(capi).update(onnxruntime_pybind11_state=state)
    for module in (package, capi, state):
        monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.parametrize("error", [EPFail("the device was removed"), RuntimeError("the device was removed")])
def test_what_fails_beneath_is_a_stages_error(error: Exception) -> None:
    with pytest.raises(StageError, match="ONNX Runtime failed while it ran the model: the device was removed"):
        ortrun.answers(Session(error), ["a"], {})


def test_a_bug_of_ours_stays_one() -> None:
    with pytest.raises(KeyError):
        ortrun.answers(Session(KeyError("a")), ["a"], {})
