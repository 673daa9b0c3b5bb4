"""A target nobody here has heard of: two folders are added, nothing else is touched, and every command knows it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from support.checkout import BRIEF, copy_checkout
from support.commands import ROOT, Portwright, read_json
from support.seeds import Seeds

TARGET = """
name = "throwaway"
title = "Throwaway processor"
toolchains = ["exporter", "throwaway"]
default_recipe = "throwaway_fp32"
runs_on = ["self-hosted", "throwaway-builder"]

[runtime]
name = "onnxruntime"
device = "CPU"

[devices.npu]
title = "Throwaway NPU"
runtime = "onnxruntime"
device = "CPU"
install = "install the throwaway driver"
runs_on = ["self-hosted", "throwaway-npu"]
nodes = [{ path = "/dev/throwaway*", driver = "throwaway" }]
"""


def add_target(root: Path) -> None:
    """`targets/throwaway/` and `docker/throwaway/`, and nothing else."""
    folder = root / "targets" / "throwaway"
    (folder / "recipes").mkdir(parents=True)
    (folder / "target.toml").write_text(TARGET)
    recipe = read_json(ROOT / "targets" / "cpu" / "recipes" / "bert-base-portuguese-cased_fp32_cpu.json")
    recipe |= {
        "name": "throwaway_fp32",
        "target": "throwaway",
        "benchmark": BRIEF,
    }
    recipe["gates"]["placement"] = {"on": ["ThrowawayExecutionProvider"], "stand_in": ["CPUExecutionProvider"]}
    (folder / "recipes" / "throwaway_fp32.json").write_text(json.dumps(recipe))
    shutil.copytree(root / "docker" / "ort", root / "docker" / "throwaway")


@pytest.fixture
def checkout(portwright: Portwright, tmp_path: Path) -> Portwright:
    copied = copy_checkout(tmp_path / "checkout", portwright)
    add_target(copied.root)
    return copied


@pytest.mark.scenario
def test_a_target_is_added_by_adding_folders(checkout: Portwright, seeds: Seeds, texts: Path) -> None:
    seeds.hand_on(checkout, "synthetic:bert-tiny", 17)
    listed = checkout.run("list")
    assert listed.code == 0, listed.text
    assert "Throwaway processor" in listed.out
    run = ("run", "--target=throwaway", "--model=synthetic:bert-tiny", f"--data={texts}", "--engine=venv")
    done = checkout.run(*run)
    assert done.code == 0, done.text
    result = checkout.result("synthetic-bert-tiny-seed-0", "throwaway_fp32")
    assert result["target"] == "throwaway"
    assert {stage["toolchain"] for stage in result["stages"]} == {"exporter", "throwaway"}
    [placement] = [gate for gate in result["gates"] if gate["name"] == "placement"]
    assert placement["passed"] is None
    assert "CPU stand-in" in done.out


@pytest.mark.scenario
def test_its_jobs_are_in_the_matrix(checkout: Portwright) -> None:
    done = checkout.run("matrix", "--format=github")
    assert done.code == 0, done.text
    jobs = [job for job in json.loads(done.out)["include"] if job["target"] == "throwaway"]
    assert {(job["device"], tuple(job["runs_on"])) for job in jobs} == {
        ("none", ("self-hosted", "throwaway-builder")),
        ("npu", ("self-hosted", "throwaway-npu")),
    }


@pytest.mark.scenario
def test_its_device_is_asked_for_and_is_not_there(checkout: Portwright) -> None:
    done = checkout.run("run", "--target=throwaway", "--model=synthetic:bert-tiny", "--device=npu", "--engine=venv")
    assert done.code in {2, 4}, done.text
    assert "/dev/throwaway*" in done.text
    assert "install the throwaway driver" in done.text
