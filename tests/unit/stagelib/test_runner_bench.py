"""`bench` of a bundle, with a measurement that is made up: how it ends, and a result that the host can compare."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from portwright.gates import Findings, judge
from portwright.likeness import unlike
from portwright.readback import read_result
from portwright.recipe import Gates
from portwright.results import FirstInference, Placed, Placement, Similarity, Sustained
from stagelib import machinelock
from stagelib.api import Call, Result, StageError
from stagelib.machinelock import MEASURING, machine_wide
from stagelib.runner import __main__ as runner
from stagelib.runner import result as results
from stagelib.runner.contents import Contents
from stagelib.runtimes.base import ExecutedOn, listed
from stagelib.runtimes.base import Placed as Part
from stagelib.stages import benchmark
from support.fake_bundle import NPU, STAND_IN, Device, write_bundle
from support.sample_results import benchmark as benchmark_facts
from support.sample_results import result

HOST = result()
FIRST = {"cold_load_s": 0.4, "cold_ms": 248.0, "warm_load_s": 0.4, "warm_ms": 253.0}
SUSTAINED = {"seconds": 5.0, "first_ms": 1.7, "last_ms": 1.2, "inferences_per_s": 665.0}
FACTS = {
    **benchmark_facts(HOST),
    "protocol": 2,
    "placement": listed([Part(where="NPU", nodes=7)]),
    "first_inference": FIRST,
    "sustained": SUSTAINED,
}
TEXTS = "2e" * 32
COSINES = {"mean": 0.9, "min": 0.5, "samples": 64, "per_sample": [], "inputs_sha256": TEXTS}


def packed(root: Path, table: NDArray[np.float32], **changes: Any) -> Contents:
    root.mkdir(exist_ok=True)
    (root / "host-result.json").write_text(HOST.model_dump_json())
    return write_bundle(root, table, **changes)


def test_a_device_that_fails_while_it_is_measured_is_no_wrong_bundle(
    tmp_path: Path,
    table: NDArray[np.float32],
    device: Device,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del device
    packed(tmp_path, table)

    def fail(*_: object) -> Result:
        raise StageError("the device went away")

    monkeypatch.setattr(benchmark, "run", fail)
    assert runner.main(["bench", f"--bundle={tmp_path}", f"--out={tmp_path / 'out.json'}"]) == 1
    assert "error: the device went away" in capsys.readouterr().err


def test_who_stops_it_sees_no_traceback(
    tmp_path: Path,
    table: NDArray[np.float32],
    device: Device,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del device
    packed(tmp_path, table)

    def stopped(*_: object) -> Result:
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark, "run", stopped)
    assert runner.main(["bench", f"--bundle={tmp_path}", f"--out={tmp_path / 'out.json'}"]) == runner.STOPPED
    assert "no result was written" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()


def test_a_place_that_cannot_be_written_is_told_before_anything_is_measured(
    tmp_path: Path, table: NDArray[np.float32], device: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    del device
    packed(tmp_path, table)
    (tmp_path / "file").touch()
    assert runner.main(["bench", f"--bundle={tmp_path}", f"--out={tmp_path / 'file' / 'out.json'}"]) == runner.WRONG
    told = capsys.readouterr()
    assert "can't be written" in told.err
    assert told.out == ""


def test_two_benchmarks_of_a_machine_take_turns(
    tmp_path: Path,
    table: NDArray[np.float32],
    device: Device,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del device
    packed(tmp_path, table)
    monkeypatch.setattr(machinelock, "SHARED", tmp_path)
    begun, ended = threading.Event(), threading.Event()

    def made_up(_: Call, __: benchmark.Params) -> Result:
        begun.set()
        return Result(facts=FACTS)

    def bench() -> None:
        assert runner.main(["bench", f"--bundle={tmp_path}", f"--out={tmp_path / 'out.json'}"]) == 0
        ended.set()

    monkeypatch.setattr(benchmark, "run", made_up)
    said = ""
    with machine_wide(MEASURING, lambda: pytest.fail("nobody holds it")):
        thread = threading.Thread(target=bench)
        thread.start()
        deadline = time.monotonic() + 20
        while "waiting for another benchmark" not in said and time.monotonic() < deadline:
            said += capsys.readouterr().out
            time.sleep(0.01)
        assert "waiting for another benchmark" in said
        assert not begun.is_set()
    thread.join(20)
    assert ended.is_set()


def measured(root: Path, monkeypatch: pytest.MonkeyPatch, cosines: Mapping[str, Any] | None) -> Path:
    def made_up(_: Call, __: benchmark.Params) -> Result:
        return Result(facts=FACTS)

    monkeypatch.setattr(benchmark, "run", made_up)
    monkeypatch.setattr(runner, "_similarity", lambda *_: cosines)
    if cosines:
        (root / "reference").mkdir()
    out = root / "out.json"
    assert runner.main(["bench", f"--bundle={root}", f"--out={out}"]) == 0
    return out


def test_the_host_can_compare_what_was_measured_with_the_reference(
    tmp_path: Path, table: NDArray[np.float32], device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    del device
    packed(tmp_path, table)
    found = read_result(measured(tmp_path, monkeypatch, {**COSINES, "mean": 0.99, "min": 0.98}))
    assert found.protocol is not None
    assert (found.protocol.number, found.protocol.evaluation_sha256) == (2, TEXTS)
    assert unlike(found, found, (found.protocol, found.protocol)) == []
    assert found.first_inference == FirstInference(**FIRST)
    assert found.sustained == Sustained(**SUSTAINED)


def test_without_the_reference_the_result_says_that_nothing_was_compared(
    tmp_path: Path, table: NDArray[np.float32], device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    del device
    packed(tmp_path, table)
    found = read_result(measured(tmp_path, monkeypatch, None))
    assert found.protocol is not None
    assert found.protocol.evaluation_sha256 is None
    differing = unlike(found, HOST, (found.protocol, HOST.protocol))
    assert any(line.startswith("evaluation sha256: nothing and") for line in differing)


@pytest.mark.parametrize(("execution", "ran_on"), [(NPU, "npu"), (STAND_IN, "cpu")])
@pytest.mark.parametrize("on", ["cpu", "npu"])
@pytest.mark.parametrize("verdict", ["valid", "invalid"])
def test_a_device_judges_in_the_hosts_own_words(
    tmp_path: Path, table: NDArray[np.float32], execution: Any, ran_on: str, on: str, verdict: str
) -> None:
    asked = {
        "placement": {"on": ["NPU"]},
        "similarity": {"mean": 0.95, "min": 0.4},
        "latency_ratio": {"max": 0.2, "on": on},
    }
    gates = Gates.model_validate_json(json.dumps(asked))
    contents = packed(tmp_path, table, gates=gates.model_dump(mode="json"))
    facts = {**FACTS, "verdict": verdict}
    executed_on: ExecutedOn = "cpu" if ran_on == "cpu" else "device"
    document = results.build(tmp_path, contents, execution, executed_on, facts, COSINES, [])
    ratio = None if verdict == "invalid" else HOST.latency_ratio
    found = Findings(
        similarity=Similarity(mean=0.9, min=0.5, samples=64),
        placement=Placement(runtime="fake", nodes=(Placed(where="NPU", nodes=7, ops={}),)),
        executed_on="cpu" if ran_on == "cpu" else "device",
        asked="" if ran_on == "cpu" else ran_on,
        latency_ratio=ratio,
    )
    on_host = [record.model_dump(mode="json") for record in judge(gates, found) if record.name != "placement"]
    assert document["gates"] == on_host
