"""Every vendor's target on a machine with no device: what ships is there, and loads with the vendor's own library."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.checkout import brief_checkout
from support.commands import ENGINES, Portwright, read_json
from support.seeds import Seeds

DEFAULTS = {
    "qnn": "bert-base-portuguese-cased_qdq_qnn",
    "vitisai": "bert-base-portuguese-cased_qdq_amd",
    "trt": "bert-base-portuguese-cased_trtrtx",
    "dml": "bert-base-portuguese-cased_dml",
    "adreno": "bert-base-portuguese-cased_fp16_adreno",
    "ortgpu": "bert-base-portuguese-cased_fp16_ortgpu",
}
TARGETS = {"docker": tuple(DEFAULTS), "venv": ("qnn", "trt")}
"""All in images; of the environments two that say the most: the stages are the same."""
FEW = 72
"""Rows of the data: enough for calibration and similarity; accuracy has a scenario of its own."""


@pytest.fixture
def checkout(portwright: Portwright, tmp_path: Path) -> Portwright:
    """The repository's recipes, measured briefly: main_job has them as they are."""
    return brief_checkout(tmp_path / "checkout", portwright)


def without_accuracy(root: Path, target: str, name: str, **changes: Any) -> Path:
    """A recipe of the checkout, from now on without its accuracy."""
    path = root / "targets" / target / "recipes" / f"{name}.json"
    recipe = read_json(path)
    del recipe["accuracy"], recipe["gates"]["accuracy"]
    path.write_text(json.dumps(recipe | changes))
    return path


def gates(result: dict[str, Any]) -> dict[str, Any]:
    return {gate["name"]: gate["passed"] for gate in result["gates"]}


def judged_by(python: Path, code: str, folder: Path) -> Any:
    """What a script prints that knows the vendor's library and nothing of ours."""
    done = subprocess.run([str(python), "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_every_target_makes_what_ships_and_labels_what_stood_in(
    checkout: Portwright, engine: str, seeds: Seeds, minilm: Path, texts: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text("".join(texts.read_text().splitlines(keepends=True)[:FEW]))
    if engine == "venv":  # in images the exports are made here
        seeds.hand_on(checkout, minilm, 17, 20)
    run = ("run", f"--target={','.join(TARGETS[engine])}", f"--model={minilm}", f"--data={few}", f"--engine={engine}")
    done = checkout.run(*run)
    assert done.code == 0, done.text
    recipes = {target: DEFAULTS[target] for target in TARGETS[engine]}
    for target, recipe in recipes.items():
        result = checkout.result("minilm", recipe)
        assert (result["target"], result["status"], result["executed_on"]) == (target, "passed", "cpu")
        assert gates(result)["placement"] is None
        assert f"{recipe}" in done.out
    assert "CPU stand-in" in done.out
    check_qnn(checkout)
    exports = {
        stage["key"]
        for recipe in recipes.values()
        for stage in checkout.result("minilm", recipe)["stages"]
        if stage["name"] == "export"
    }
    # Opsets 17 and 20: once each, whatever the number of recipes.
    assert len(exports) == 2


def check_qnn(portwright: Portwright) -> None:
    """The emulator is labelled, gated against the model that was compiled, and no stand-in for the device."""
    result = portwright.result("minilm", DEFAULTS["qnn"])
    assert result["emulation"]["executed_on"] == "emulator"
    assert gates(result)["placement.compiled"] is True
    assert gates(result)["placement.emulated"] is True
    assert gates(result)["emulation.mean"] is True
    assert result["executed"] == {"stage": "quantize_qdq", "format": "onnx", "deployable": False, "asked": ""}
    chips = {variant["built_for"]["chip"] for variant in result["variants"]}
    assert chips >= {"SC8380XP", "SM8650", "SM8750"}


CONTEXTS = """
import json, sys, onnx
from pathlib import Path
found = []
for path in sorted(Path(sys.argv[1]).glob("*_ctx.onnx")):
    model = onnx.load(path)
    onnx.checker.check_model(str(path))
    [node] = model.graph.node
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    binary = path.parent / given["ep_cache_context"].decode()
    found.append({"op": node.op_type, "size": binary.stat().st_size,
                  "metadata": {entry.key: entry.value for entry in model.metadata_props}})
print(json.dumps(found))
"""
ENGINE = """
import json, sys, tensorrt_rtx_bindings
from pathlib import Path
[path] = Path(sys.argv[1]).glob("*.engine")
print(json.dumps({"size": path.stat().st_size, "stamp": json.loads(Path(f"{path}.json").read_text()),
                  "version": tensorrt_rtx_bindings.__version__}))
"""


@pytest.mark.scenario
def test_the_better_recipes_lose_less(
    checkout: Portwright, seeds: Seeds, minilm: Path, texts: Path, toolchain_python: Callable[[str], Path]
) -> None:
    seeds.hand_on(checkout, minilm, 17, 20)
    for target, name, least in (
        ("qnn", "bert-base-portuguese-cased_qdq_qnn_best", 0.998),
        ("vitisai", "bert-base-portuguese-cased_a16w8_amd", 0.998),
        ("openvino", "bert-base-portuguese-cased_context_ov_best", 0.994),
        ("trt", "bert-base-portuguese-cased_trtrtx_best", 0.9999),
        ("dml", "bert-base-portuguese-cased_dml_best", 0.9999),
    ):
        recipe = without_accuracy(checkout.root, target, name)
        done = checkout.run(
            "run",
            f"--target={target}",
            f"--recipe={recipe}",
            f"--model={minilm}",
            f"--data={texts}",
            "--engine=venv",
        )
        assert done.code == 0, done.text
        result = checkout.result("minilm", name)
        assert result["similarity"]["mean"] >= least
        # What only the vendor's own file can make is named, not passed over.
        assert (target in {"vitisai", "openvino"}) == bool(result["not_built"]) == ("not built: " in done.out)
    contexts = judged_by(toolchain_python("ort"), CONTEXTS, view(checkout, "bert-base-portuguese-cased_qdq_qnn_best"))
    assert len(contexts) >= 3
    assert all(context["op"] == "EPContext" and context["size"] > 1_000_000 for context in contexts)
    assert all(any("compatibility" in key for key in context["metadata"]) for context in contexts)
    assert len({json.dumps(context["metadata"], sort_keys=True) for context in contexts}) == len(contexts)
    engine = judged_by(toolchain_python("trt"), ENGINE, view(checkout, "bert-base-portuguese-cased_trtrtx_best"))
    assert engine["size"] > 10_000_000
    assert engine["version"] in json.dumps(engine["stamp"])


def view(portwright: Portwright, recipe: str) -> Path:
    return portwright.view("minilm", recipe) / "deploy"


@pytest.mark.scenario
def test_a_fallback_to_the_cpu_fails_the_run(checkout: Portwright, seeds: Seeds, minilm: Path, texts: Path) -> None:
    """Hexagon takes no LayerNormalization whose scale has 16 bits: those nodes would run on the CPU, in silence."""
    name = "bert-base-portuguese-cased_qdq_qnn_best"
    seeds.hand_on(checkout, minilm, 20)
    stages = read_json(checkout.root / "targets" / "qnn" / "recipes" / f"{name}.json")["stages"]
    del stages[4]["layer_norm_scale_type"]
    stages[5]["socs"] = ["60"]
    recipe = without_accuracy(checkout.root, "qnn", name, stages=stages)
    done = checkout.run(
        "run", "--target=qnn", f"--recipe={recipe}", f"--model={minilm}", f"--data={texts}", "--engine=venv"
    )
    assert done.code == 3, done.text
    assert "gate placement.compiled: silent CPU fallback: " in done.out
    assert "LayerNormalization" in done.out
    assert (view(checkout, name) / "REJECTED.txt").is_file()
