"""The runner of a bundle, on a made-up runtime: what it checks, what it says, and how it ends."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stagelib.api import StageError
from stagelib.modelinfo import ModelInfo, Tensor, Variant
from stagelib.runner.__main__ import main
from stagelib.runner.compatibility import check_variants, deployable
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

    def run(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return {"hidden": self.table[batch["input_ids"][:, 0]]}

    def placement(self) -> tuple[Placed, ...]:
        return self.nodes


@dataclass
class Device:
    """The made-up machine: which session its runtime loads, and on which devices."""

    table: NDArray[np.float32]
    devices: tuple[str, ...] = ("NPU", "CPU")
    places: tuple[Placed, ...] | None = None


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
        return FakeSession(machine.table, machine.places or (Placed(where=device, nodes=7),))

    module = ModuleType("stagelib.runtimes.fake")
    vars(module).update(load=load, executed_on=lambda name: "cpu" if name == "CPU" else "device")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return machine


@pytest.fixture
def verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(*options: str) -> tuple[int, str]:
        code = main(["verify", f"--bundle={tmp_path}", *options])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return run


Verify = Callable[..., tuple[int, str]]


def test_a_whole_bundle_on_its_device(
    tmp_path: Path, table: NDArray[np.float32], device: Device, verify: Verify
) -> None:
    del device
    write_bundle(tmp_path, table)
    code, shown = verify()
    assert code == 0, shown
    assert "100.0% of the graph is on NPU" in shown
    assert "worst of 3 texts with the packed answers is 1.000000, at least 0.98" in shown
    assert "r is fit to run on An NPU" in shown


def test_a_stand_in_is_labelled(tmp_path: Path, table: NDArray[np.float32], device: Device, verify: Verify) -> None:
    device.devices = ("CPU",)
    write_bundle(tmp_path, table)
    code, shown = verify()
    assert code == 1
    assert "FAIL load: no NPU here (try: install its driver; --device=cpu stands in" in shown
    code, shown = verify("--device=cpu")
    assert code == 0, shown
    assert "?    placement: 7 nodes on CPU stood in for NPU" in shown


def test_a_silent_fallback_fails(tmp_path: Path, table: NDArray[np.float32], device: Device, verify: Verify) -> None:
    device.places = (Placed(where="CPU", nodes=3), Placed(where="NPU", nodes=4))
    write_bundle(tmp_path, table)
    code, shown = verify()
    assert code == 1
    assert "FAIL placement: silent CPU fallback" in shown


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: path.write_bytes(b"weightz"), "deploy/model.onnx is damaged"),
        (lambda path: path.write_bytes(b"w"), "deploy/model.onnx has 1 bytes and had 7"),
        (lambda path: path.unlink(), "deploy/model.onnx is missing"),
    ],
)
def test_a_damaged_file_is_named_and_not_loaded(
    tmp_path: Path,
    table: NDArray[np.float32],
    device: Device,
    verify: Verify,
    spoil: Callable[[Path], None],
    told: str,
) -> None:
    del device
    write_bundle(tmp_path, table)
    spoil(tmp_path / "deploy" / "model.onnx")
    code, shown = verify()
    assert code == 1
    assert told in shown
    assert "load:" not in shown


def test_other_answers_than_the_packed_ones_fail(
    tmp_path: Path, table: NDArray[np.float32], device: Device, verify: Verify
) -> None:
    write_bundle(tmp_path, table)
    device.table = table.copy()
    device.table[1] = -table[1]
    code, shown = verify()
    assert code == 1
    assert "FAIL golden: cosine of the worst of 3 texts with the packed answers is -1.000000" in shown
    assert verify("--min-cosine=-1")[0] == 0


def test_answers_that_are_no_numbers_fail(
    tmp_path: Path, table: NDArray[np.float32], device: Device, verify: Verify
) -> None:
    write_bundle(tmp_path, table)
    device.table = np.full_like(table, np.nan)
    code, shown = verify("--min-cosine=-1")
    assert code == 1
    assert "FAIL golden" in shown


def test_another_platform_and_other_packages_are_named(
    tmp_path: Path, table: NDArray[np.float32], device: Device, verify: Verify
) -> None:
    del device
    contents = write_bundle(tmp_path, table, platform="win-arm64", machines=("other",))
    (tmp_path / "requirements.txt").write_text("numpy==0.0.1 \\\nno-such-thing==1 \\\n")
    seal(tmp_path, contents)
    code, shown = verify()
    assert code == 1
    assert "this bundle is for win-arm64" in shown
    assert "instead of 0.0.1; no-such-thing is not installed" in shown


def test_wrong_commands_end_with_2(tmp_path: Path, table: NDArray[np.float32], verify: Verify) -> None:
    code, shown = verify()
    assert code == 2
    assert "holds no bundle.json" in shown
    write_bundle(tmp_path, table)
    code, shown = verify("--device=gpu")
    assert code == 2
    assert "known: npu, cpu" in shown


def test_a_variant_is_loaded_alone(tmp_path: Path, table: NDArray[np.float32]) -> None:
    write_bundle(tmp_path, table)
    deploy = tmp_path / "deploy"
    (deploy / "v75.onnx").write_bytes(b"other")
    info = ModelInfo.read(deploy)
    variants = (
        Variant(entry="model.onnx", files=("model.onnx",), built_for={"chip": "60"}),
        Variant(entry="v75.onnx", files=("v75.onnx",), built_for={"chip": "57"}),
    )
    replace(info, files=("model.onnx", "v75.onnx"), variants=variants).write(deploy)
    assert deployable(tmp_path, None, tmp_path / "scratch") == deploy
    folder = deployable(tmp_path, "v75.onnx", tmp_path / "scratch")
    assert ModelInfo.read(folder).entry == "v75.onnx"
    assert (folder / "v75.onnx").read_bytes() == b"other"
    session = FakeSession(table, (), settings={"model": "v75.onnx"})
    lines = [check.line() for check in check_variants(deploy, session)]
    assert lines == [
        "?    variant model.onnx: not loaded; built for chip 60",
        "ok   variant v75.onnx: the runtime chose it for this device; built for chip 57",
    ]
    with pytest.raises(StageError, match=r"no variant 'v81\.onnx'"):
        deployable(tmp_path, "v81.onnx", tmp_path / "again")
