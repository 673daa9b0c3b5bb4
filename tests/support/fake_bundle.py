"""A bundle with a made-up model, and a machine with a made-up runtime that runs it."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stagelib.api import StageError
from stagelib.modelinfo import ModelInfo, Tensor
from stagelib.runner.contents import Contents, Execution, FileEntry
from stagelib.runtimes.base import Placed

ROWS, LENGTH, HIDDEN = 3, 4, 5
NPU = Execution(name="npu", title="An NPU", runtime="fake", device="NPU")
STAND_IN = Execution(name="cpu", title="the processor", runtime="fake", device="CPU")
GATE = {"on": ["NPU"], "min_share": 1.0, "stand_in": ["CPU"], "may_stay_on_cpu": []}


@dataclass
class FakeSession:
    """Answers with the hidden states of its table, row by row of the first input's first token."""

    table: NDArray[np.float32]
    nodes: tuple[Placed, ...]
    inputs: tuple[str, ...] = ("input_ids", "attention_mask")
    settings: Mapping[str, str | int | None] = field(default_factory=dict)
    fails: str = ""
    device_name: str = "A made-up chip"

    def run(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if self.fails:
            raise StageError(self.fails)
        return {"hidden": self.table[batch["input_ids"][:, 0]]}

    def placement(self) -> tuple[Placed, ...]:
        return self.nodes


@dataclass
class Device:
    """The made-up machine: which session its runtime loads, and on which devices."""

    table: NDArray[np.float32]
    devices: tuple[str, ...] = ("NPU", "CPU")
    places: tuple[Placed, ...] | None = None
    fails: str = ""
    """Why a run fails, if it does."""


def write_bundle(root: Path, table: NDArray[np.float32], **changes: Any) -> Contents:
    deploy = root / "deploy"
    deploy.mkdir(parents=True)
    tensor = Tensor(name="input_ids", dtype="int64", shape=(1, LENGTH))
    info = ModelInfo(
        format="onnx", entry="model.onnx", files=("model.onnx",), precision="fp32", inputs=(tensor,), outputs=()
    )
    info.write(deploy)
    (deploy / "model.onnx").write_bytes(b"weights")
    mask = np.ones((ROWS, LENGTH), dtype=np.int64)
    ids = np.tile(np.arange(ROWS)[:, None], (1, LENGTH))
    np.savez(deploy / "golden.npz", input_ids=ids, attention_mask=mask, embedding=table.mean(axis=1))
    contract = {
        "pooling": {"mode": "mean", "normalize": False},
        "golden": {"arrays": "golden.npz", "executed_on": "cpu"},
    }
    (deploy / "contract.json").write_text(json.dumps(contract))
    (root / "requirements.txt").write_text(f"numpy=={np.__version__} \\\n    --hash=sha256:00\n")
    contents = Contents(
        recipe="r",
        target="t",
        platform="this-one",
        system=platform.system().lower(),
        machines=(platform.machine().lower(),),
        executions=(NPU, STAND_IN),
        environment="",
        made_by="export",
        gates={"placement": GATE, "similarity": {"mean": 0.9, "min": 0.9}},
        golden_min_cosine={"cpu": 0.99, "device": 0.98},
        benchmark={},
        files={},
    )
    contents = replace(contents, **changes)
    return seal(root, contents)


def seal(root: Path, contents: Contents) -> Contents:
    """Describe every file as it is now."""
    files = {
        path.relative_to(root).as_posix(): FileEntry(
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(), size=path.stat().st_size
        )
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != "bundle.json"
    }
    contents = replace(contents, files=files)
    (root / "bundle.json").write_text(contents.text())
    return contents


@pytest.fixture
def table() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(ROWS, LENGTH, HIDDEN)).astype(np.float32)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch, table: NDArray[np.float32]) -> Device:
    machine = Device(table)

    def load(folder: Path, *, device: str, threads: int | None) -> FakeSession:
        del folder, threads
        if device not in machine.devices:
            raise StageError(f"no {device} here", hint="install its driver")
        places = machine.places or (Placed(where=device, nodes=7),)
        return FakeSession(machine.table, places, fails=machine.fails)

    module = ModuleType("stagelib.runtimes.fake")
    vars(module).update(load=load, executed_on=lambda name: "cpu" if name == "CPU" else "device")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return machine
