"""What stages make of a model that answers with NaN: the figures say so, and the gates decide."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stagelib import batches, bench_facts
from stagelib.api import Call, StageError
from stagelib.bench_worker import Outcome
from stagelib.contract import Reading
from stagelib.embedding import embed_rows
from stagelib.modelinfo import ModelInfo, Tensor
from stagelib.runtimes.base import Placed
from stagelib.stages import embed, evaluate, package

IDS = np.array([[5, 6, 0], [7, 8, 9]], np.int64)


class Model:
    """A session that answers with its tokens, or with NaN for every second row."""

    inputs = ("input_ids", "attention_mask")
    device_name = "a chip"
    settings: Mapping[str, str | int | None] = {}

    def __init__(self, *, broken: bool) -> None:
        self._broken = broken

    def run(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        hidden = np.repeat(batch["input_ids"][..., None], 2, axis=2).astype(np.float32)
        if self._broken:
            hidden[1::2] = np.nan
        return {"last_hidden_state": hidden}

    def placement(self) -> tuple[Placed, ...]:
        return ()


def call_of(folder: Path) -> Call:
    np.savez(folder / batches.EVALUATION, input_ids=IDS, attention_mask=(IDS > 0).astype(np.int64))
    return Call(
        stage="package",
        inputs={"batches": folder},
        output=folder,
        scratch=folder,
        events=io.StringIO(),
    )


def test_golden_vectors_that_are_not_finite_are_null_in_json(tmp_path: Path) -> None:
    info = ModelInfo(
        format="onnx",
        precision="fp32",
        entry="model.onnx",
        files=("model.onnx",),
        inputs=(Tensor(name="input_ids", dtype="int64", shape=(2, 3)),),
        outputs=(),
    )
    call = call_of(tmp_path)
    samples, arrays = package._golden(call, info, Reading(), Model(broken=True))
    found = json.loads(json.dumps(samples, allow_nan=False))
    assert [sample["embedding"] for sample in found] == [[5.5, 5.5], [None, None]]
    assert found[1]["input_ids"] == [7, 8, 9]
    assert math.isnan(arrays["embedding"][1, 0])
    assert "NaN" in call.events.getvalue()  # type: ignore[attr-defined]  # a StringIO, above


def test_a_benchmark_of_what_is_not_finite_is_invalid() -> None:
    times = [1.0, 1.1, 1.0, 1.1]
    outcome = Outcome(candidate_ms=times, baseline_ms=times, finite=False, settled=True, seconds=1.0)
    facts = bench_facts.compared(outcome, 2, 0, 1)
    assert (facts["verdict"], facts["verdict_reason"]) == ("invalid", "the model's outputs hold NaN or infinity")


def test_a_candidate_that_is_not_finite_is_left_to_the_gates_and_a_reference_is_not(tmp_path: Path) -> None:
    call = call_of(tmp_path)
    rows = batches.read_rows(tmp_path, batches.EVALUATION)
    folders = {}
    for name, model in (("sound", Model(broken=False)), ("broken", Model(broken=True))):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        np.savez(folders[name] / embed.FILE, allow_pickle=False, evaluation=embed_rows(model, rows, 2))
    inputs = {"batches": tmp_path, "embeddings": folders["broken"], "reference_embeddings": folders["sound"]}
    result = evaluate.run(dataclasses.replace(call, inputs=inputs), evaluate.Params())
    found = result.facts["similarity"]
    assert found["per_sample"] == [1.0, None]
    assert math.isnan(found["mean"])
    assert math.isnan(found["min"])
    assert found["nearest_agreement"] is None
    swapped = {"batches": tmp_path, "embeddings": folders["sound"], "reference_embeddings": folders["broken"]}
    with pytest.raises(StageError, match="fp32 export"):
        evaluate.run(dataclasses.replace(call, inputs=swapped), evaluate.Params())
