"""The main job: a model and texts in, artifacts and numbers out, through either engine."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from support.checkout import EVERY_PASS
from support.commands import ENGINES, ROOT, Portwright, read_json
from support.seeds import Seeds

OPENVINO = "bert-base-portuguese-cased_context_ov_static"
QDQ = "bert-base-portuguese-cased_qdq_cpu"
FP32 = "bert-base-portuguese-cased_fp32_cpu"


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_a_model_goes_in_and_artifacts_and_numbers_come_out(
    portwright: Portwright, engine: str, minilm: Path, texts: Path, toolchain_python: Callable[[str], Path]
) -> None:
    # In images one target shows it; every other one is run there by test_vendors.
    recipes = {"openvino": OPENVINO} | ({"cpu": QDQ} if engine == "venv" else {})
    arguments = ("run", f"--target={','.join(recipes)}", f"--model={minilm}", f"--data={texts}", f"--engine={engine}")
    done = portwright.run(*arguments)
    assert done.code == 0, done.text
    for target, recipe in recipes.items():
        view = portwright.view("minilm", recipe)
        result = portwright.result("minilm", recipe)
        check_result(result, target, engine)
        check_manifest(view)
        check_contract(view / "deploy")
        assert recipe in done.out
        assert (view / "measurements.jsonl").read_text().count("\n") > 30
    result = portwright.result("minilm", OPENVINO)
    assert result["similarity"]["mean"] >= 0.99
    deploy = view_of(portwright) / "deploy"
    shipped = {path.relative_to(deploy).as_posix() for path in files(deploy)}
    assert shipped >= {"model.xml", "model.bin", "model_ctx.onnx", "golden.npz", "tokenizer/tokenizer.json"}
    check_golden(toolchain_python("openvino"), deploy)
    check_no_op(portwright, arguments, engine)


def view_of(portwright: Portwright) -> Path:
    return portwright.view("minilm", OPENVINO)


def check_result(result: dict[str, Any], target: str, engine: str) -> None:
    """The result fits its schema, and its statistics their own order."""
    jsonschema.validate(result, read_json(ROOT / "schemas" / "result.schema.json"))
    assert (result["target"], result["engine"], result["status"]) == (target, engine, "passed")
    assert result["executed_on"] == "cpu"
    assert result["model"]["synthetic"] is False
    assert result["data"]["disjoint"] is True
    for latency in (result["latency_ms"], result["baseline_latency_ms"]):
        ordered = [latency[name] for name in ("min", "p50", "p90", "p99", "max")]
        assert ordered == sorted(ordered)
        assert latency["min"] <= latency["mean"] <= latency["max"]
    assert result["throughput"]["tokens_per_s"] == pytest.approx(
        result["throughput"]["inferences_per_s"] * 128, rel=1e-3
    )
    assert {stage["name"] for stage in result["stages"]} >= {"export", "tokenize", "package", "benchmark", "evaluate"}
    assert all(stage["peak_memory_bytes"] > 0 for stage in result["stages"])


def check_manifest(view: Path) -> None:
    """Every file of the view, with the digest and size it really has."""
    manifest = read_json(view / "manifest.json")
    present = {path.relative_to(view).as_posix() for path in view.rglob("*") if path.is_file()} - {"manifest.json"}
    assert set(manifest["files"]) == present
    for name, entry in manifest["files"].items():
        content = (view / name).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (entry["sha256"], entry["size"])


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# OpenVINO's own interface and nothing of ours: what a user does with what was shipped.
GOLDEN = """
import json, sys, numpy, openvino
from pathlib import Path
folder = Path(sys.argv[1])
contract = json.loads((folder / "contract.json").read_text())
model = openvino.Core().compile_model(folder / contract["entry"], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
least = 1.0
for sample in contract["golden"]["samples"]:
    feed = {given["name"]: numpy.array(sample[given["name"]], dtype=given["dtype"]).reshape(given["shape"])
            for given in contract["inputs"]}
    mask = feed["attention_mask"][..., None]
    hidden = model(feed)[contract["pooling"]["output"]]
    pooled = (hidden * mask).sum(axis=1) / mask.sum(axis=1)
    golden = numpy.array(sample["embedding"]).reshape(pooled.shape)
    least = min(least, float((pooled * golden).sum() / numpy.linalg.norm(pooled) / numpy.linalg.norm(golden)))
print(json.dumps({"least": least, "samples": len(contract["golden"]["samples"])}))
"""


def check_golden(python: Path, deploy: Path) -> None:
    """The golden vectors are what the shipped model gives."""
    done = subprocess.run([str(python), "-c", GOLDEN, str(deploy)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["samples"] >= 3
    assert found["least"] > 0.9999


def check_contract(deploy: Path) -> None:
    contract = read_json(deploy / "contract.json")
    assert [given["name"] for given in contract["inputs"]] == ["input_ids", "attention_mask", "token_type_ids"]
    assert all(given["shape"] == [1, 128] for given in contract["inputs"])
    assert contract["golden"]


def check_no_op(portwright: Portwright, arguments: tuple[str, ...], engine: str) -> None:
    """With nothing to do, the engine may be gone: nothing asks for it."""
    before = portwright.result("minilm", OPENVINO)
    inode = view_of(portwright).stat().st_ino
    again = portwright.run(*arguments, DOCKER_HOST="unix:///nowhere/docker.sock")
    assert again.code == 0, again.text
    assert "Nothing to do" in again.out
    assert f"made by {engine} before" in again.out
    after = portwright.result("minilm", OPENVINO)
    assert all(stage["cached"] for stage in after["stages"])
    assert after["latency_ms"] == before["latency_ms"]
    assert view_of(portwright).stat().st_ino != inode


def check_session_settings(view: Path) -> None:
    """Each runtime option was tried on the model itself, and what was chosen is what was measured and what ships."""
    result, notes = read_json(view / "result.json"), read_json(view / "deploy" / "session.json")
    lines = [json.loads(line) for line in (view / "measurements.jsonl").read_text().splitlines()]
    assert result["protocol"]["number"] == 4
    assert result["settings"] == result["session_settings"]["one_thread"]["settings"]
    for name, found in result["session_settings"].items():
        # On a machine of one CPU both searches are of one thread.
        assert {one["name"] for one in found["tried"]} >= {"basic graph optimization"}
        assert found["settings"] == found["default"] | found["options"]
        assert (found["chosen"] == "default") == (found["options"] == {})
        assert notes["settings"][name]["settings"] == found["settings"]
        for one in found["tried"]:
            own = [row for row in lines if row.get("pass") == f"settings_{name}" and row["setting"] == one["name"]]
            assert len(own) == one["runs"]
            assert (one["ratio"] is None) == (one["refused"] != "")
    assert result["protocol"]["baseline"]["settings"] == {"provider": "CPUExecutionProvider", "intra_op_num_threads": 1}


@pytest.mark.scenario
def test_a_changed_parameter_reruns_its_stage_and_what_follows(
    portwright: Portwright, seeds: Seeds, tmp_path: Path, texts: Path
) -> None:
    seeds.hand_on(portwright, "synthetic:bert-tiny", 17)
    recipe = small_recipe(tmp_path)
    run = (
        "run",
        "--target=cpu",
        f"--recipe={recipe}",
        "--model=synthetic:bert-tiny",
        f"--data={texts}",
        "--engine=venv",
    )
    first = portwright.run(*run)
    assert first.code == 0, first.text
    check_session_settings(portwright.view("synthetic-bert-tiny-seed-0", "small"))
    changed = read_json(recipe)
    changed["stages"][2]["per_channel"] = not changed["stages"][2].get("per_channel", True)
    recipe.write_text(json.dumps(changed))
    explained = portwright.run("explain", *run[1:])
    assert "quantize_qdq: parameter per_channel" in explained.out
    assert portwright.run(*run).code == 0
    ran = {
        stage["name"]
        for stage in portwright.result("synthetic-bert-tiny-seed-0", "small")["stages"]
        if not stage["cached"]
    }
    assert ran == {"quantize_qdq", "package", "embed", "benchmark", "evaluate"}


@pytest.mark.scenario
def test_a_killed_run_goes_on_and_shows_nothing_half_made(portwright: Portwright, tmp_path: Path, texts: Path) -> None:
    recipe = small_recipe(tmp_path)
    run = (
        "run",
        "--target=cpu",
        f"--recipe={recipe}",
        "--model=synthetic:bert-tiny",
        f"--data={texts}",
        "--engine=venv",
    )
    child = portwright.start(*run)
    assert wait_for(lambda: len(list(portwright.artifacts.glob("store/??/*"))) >= 2)
    child.kill()
    child.communicate()
    made = {path.name for path in portwright.artifacts.glob("store/??/*")}
    assert all((path / "manifest.json").is_file() for path in portwright.artifacts.glob("store/??/*"))
    assert not (portwright.artifacts / "runs").exists()
    done = portwright.run(*run)
    assert done.code == 0, done.text
    stages = portwright.result("synthetic-bert-tiny-seed-0", "small")["stages"]
    assert {stage["key"] for stage in stages if stage["cached"]} >= made & {stage["key"] for stage in stages}
    assert list((portwright.artifacts / "tmp").iterdir()) == []


@pytest.mark.scenario
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_so(portwright: Portwright, tmp_path: Path, texts: Path, how: signal.Signals) -> None:
    recipe = small_recipe(tmp_path)
    child = portwright.start(
        "run", "--target=cpu", f"--recipe={recipe}", "--model=synthetic:bert-tiny", f"--data={texts}", "--engine=venv"
    )
    assert wait_for(lambda: any(portwright.artifacts.glob("store/??/*")))
    child.send_signal(how)
    try:
        out, _ = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 130, out
    assert "goes on where it was" in out
    assert "Traceback" not in out
    assert list((portwright.artifacts / "tmp").iterdir()) == []


@pytest.mark.scenario
def test_a_gate_just_out_of_reach_fails_the_run(
    portwright: Portwright, seeds: Seeds, tmp_path: Path, texts: Path
) -> None:
    seeds.hand_on(portwright, "synthetic:bert-tiny", 17)
    recipe = small_recipe(tmp_path, similarity={"mean": 1.0, "min": 1.0})
    run = (
        "run",
        "--target=cpu",
        f"--recipe={recipe}",
        "--model=synthetic:bert-tiny",
        f"--data={texts}",
        "--engine=venv",
    )
    for _ in range(2):
        done = portwright.run(*run)
        assert done.code == 3, done.text
        assert done.out.startswith("FAILED small: gate similarity.mean")
        view = portwright.view("synthetic-bert-tiny-seed-0", "small")
        assert read_json(view / "result.json")["status"] == "failed"
        assert "\nsimilarity.mean: mean cosine over " in (view / "deploy" / "REJECTED.txt").read_text()
    lenient = small_recipe(tmp_path)
    assert portwright.run(*run[:2], f"--recipe={lenient}", *run[3:]).code == 0
    assert not (view / "deploy" / "REJECTED.txt").exists()


def small_recipe(folder: Path, **gates: Any) -> Path:
    """The QDQ recipe under another name, measured briefly."""
    recipe = read_json(ROOT / "targets" / "cpu" / "recipes" / f"{QDQ}.json")
    recipe |= {"name": "small", "benchmark": EVERY_PASS}
    recipe["gates"]["similarity"] = {"mean": 0.5}
    recipe["gates"] |= gates
    path = folder / "small.json"
    path.write_text(json.dumps(recipe))
    return path


def wait_for(happened: Any, seconds: float = 120.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if happened():
            return True
        time.sleep(0.05)
    return False
