"""The emulation stage with stand-ins for both models: how many texts it runs, and what it calls itself."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stagelib import batches
from stagelib.api import Call, StageError
from stagelib.modelinfo import ModelInfo, Tensor
from stagelib.runtimes import base, onnxruntime
from stagelib.runtimes.base import ExecutedOn, Placed
from stagelib.stages import emulate
from stagelib.stages.emulate import Params

ROWS = 6


class Model:
    """A session that answers with its tokens, bent by `error`."""

    inputs = ("input_ids", "attention_mask")
    device_name = "a chip"
    settings: Mapping[str, str | int | None] = {"device": "fake"}

    def __init__(self, error: float, pause: float = 0.0) -> None:
        self._error, self._pause = error, pause
        self.runs = 0

    def run(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        time.sleep(self._pause)
        self.runs += 1
        hidden = np.repeat(batch["input_ids"][..., None], 2, axis=2).astype(np.float32)
        hidden[..., 0] += self._error
        return {"last_hidden_state": hidden}

    def placement(self) -> tuple[Placed, ...]:
        return (Placed(where="FakeExecutionProvider", nodes=1, ops={"EPContext": 1}),)


class Runtime:
    """An emulator's runtime."""

    PACKAGES, FORMATS = (), ("qnn_context",)

    def __init__(self, model: Model, where: ExecutedOn = "emulator") -> None:
        self._model, self._where = model, where

    def load(self, *_: Any, **__: Any) -> Model:
        return self._model

    def executed_on(self, _: str) -> ExecutedOn:
        return self._where


@pytest.fixture
def call(tmp_path: Path) -> Call:
    ids = np.arange(1, ROWS * 3 + 1, dtype=np.int64).reshape(ROWS, 3)
    np.savez(tmp_path / batches.EVALUATION, input_ids=ids, attention_mask=np.ones_like(ids))
    tensor = Tensor(name="input_ids", dtype="int64", shape=(1, 3))
    info = ModelInfo(
        format="qnn_context", entry="a_ctx.onnx", files=(), precision="q8", inputs=(tensor,), outputs=(tensor,)
    )
    info.write(tmp_path)
    inputs = dict.fromkeys(("model", "executable", "batches"), tmp_path)
    return Call(stage="emulate", inputs=inputs, output=tmp_path, scratch=tmp_path, events=io.StringIO())


def run(call: Call, monkeypatch: pytest.MonkeyPatch, runtime: Runtime, **params: Any) -> dict[str, Any]:
    monkeypatch.setattr(base, "find_runtime", lambda _: runtime)
    monkeypatch.setattr(onnxruntime, "load", lambda *_, **__: Model(0.0))
    return dict(emulate.run(call, Params(runtime="fake", device="fake", **params)).facts)


def test_it_says_what_ran_how_much_of_it_and_against_what(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = run(call, monkeypatch, Runtime(Model(1.0)), samples=3)
    assert (facts["samples"], facts["executed_on"], facts["variant"]) == (3, "emulator", "a_ctx.onnx")
    assert 0.9 < facts["similarity"]["mean"] < 1
    assert facts["similarity"]["samples"] == 3
    assert facts["placement"][0]["ops"] == {"EPContext": 1}
    assert "(q8)" in facts["against"]


def test_no_run_is_begun_when_the_budget_is_spent_but_one_always_is(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model(0.0, pause=0.02)
    used = iter(range(100))
    monkeypatch.setattr(time, "process_time", lambda: float(next(used)))
    facts = run(call, monkeypatch, Runtime(model), samples=5, budget_s=1.0)
    assert (model.runs, facts["samples"], facts["samples_asked"]) == (1, 1, 5)
    assert facts["seconds_per_text"] >= 0.02


def test_a_busy_machine_certifies_no_less(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "process_time", lambda: 0.0)
    assert run(call, monkeypatch, Runtime(Model(0.0, pause=0.02)), samples=3, budget_s=0.001)["samples"] == 3


def test_no_more_texts_than_there_are(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(call, monkeypatch, Runtime(Model(0.0)), samples=100)["samples"] == ROWS


@pytest.mark.parametrize("where", ["device", "cpu"])
def test_what_is_no_emulator_is_refused(call: Call, monkeypatch: pytest.MonkeyPatch, where: ExecutedOn) -> None:
    with pytest.raises(StageError, match="no emulator"):
        run(call, monkeypatch, Runtime(Model(0.0), where))


@pytest.mark.parametrize("params", [{"samples": 0}, {"budget_s": 0.0}])
def test_params_that_make_no_sense_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Params(runtime="qnn", device="emulator", **params)
