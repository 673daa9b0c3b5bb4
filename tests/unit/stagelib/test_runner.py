"""The runner of a bundle, on a made-up runtime: what it checks, what it says, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stagelib.api import StageError
from stagelib.modelinfo import ModelInfo, Variant
from stagelib.runner.__main__ import main
from stagelib.runner.compatibility import check_variants, deployable
from stagelib.runtimes.base import Placed
from support.fake_bundle import Device, FakeSession, seal, write_bundle


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


def test_a_device_that_fails_is_a_check_that_failed(
    tmp_path: Path, table: NDArray[np.float32], device: Device, verify: Verify
) -> None:
    device.fails = "the driver gave up"
    write_bundle(tmp_path, table)
    code, shown = verify()
    assert code == 1
    assert "ok   load: An NPU" in shown
    assert "FAIL golden: the driver gave up" in shown


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda _: [], "Contents is []"),
        (lambda raw: {**raw, "recipe": 3}, "recipe is 3"),
        (lambda raw: {**raw, "surplus": 1}, "surplus"),
        (lambda raw: {name: value for name, value in raw.items() if name != "gates"}, "gates"),
        (lambda raw: {**raw, "gates": {"placement": {"on": []}}}, "min_share"),
        (lambda raw: {**raw, "gates": {**raw["gates"], "similarity": None}}, "NoneType"),
        (lambda raw: {**raw, "executions": []}, "executions is empty"),
        (lambda raw: {**raw, "executions": ["npu"]}, "Execution is 'npu'"),
        (lambda raw: {**raw, "executions": [{**raw["executions"][0], "runtime": None}]}, "runtime is None"),
        (lambda raw: {**raw, "files": {"model": {"sha256": "0", "size": "1"}}}, "size is '1'"),
        (lambda raw: {**raw, "golden_min_cosine": {"cpu": 0.9}}, "device"),
        (lambda raw: {**raw, "benchmark": {"no_such": 1}}, "benchmark: "),
        (lambda raw: {**raw, "benchmark": {"min_runs": 0}}, "min_runs must be at least 2"),
    ],
)
def test_a_bundle_that_does_not_describe_itself_is_wrong(
    tmp_path: Path,
    table: NDArray[np.float32],
    device: Device,
    verify: Verify,
    spoil: Callable[[dict[str, Any]], Any],
    told: str,
) -> None:
    del device
    write_bundle(tmp_path, table)
    path = tmp_path / "bundle.json"
    path.write_text(json.dumps(spoil(json.loads(path.read_text()))))
    code, shown = verify()
    assert code == 2, shown
    assert "error: bundle.json" in shown
    assert told in shown


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
