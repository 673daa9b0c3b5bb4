"""Whole runs whose model and data come from a hub, through either engine, and what is said when there is none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from support.checkout import EVERY_PASS
from support.commands import ENGINES, ROOT, Finished, Portwright, read_json
from support.hub_repos import DATASET, MODEL
from support.stub_hub import StubHub

FP32 = ROOT / "targets" / "cpu" / "recipes" / "bert-base-portuguese-cased_fp32_cpu.json"
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The fp32 recipe, with a model and data that the stand-in hub has."""
    value = read_json(FP32)
    value |= {
        "name": "hub",
        "model": {"source": MODEL},
        "benchmark": EVERY_PASS,
    }
    value["data"]["xnli"] |= {"dataset": DATASET, "revision": "main", "samples": 20}
    value["evaluation"]["samples"] = 5
    path = tmp_path / "hub.json"
    path.write_text(json.dumps(value))
    return path


def run(portwright: Portwright, recipe: Path, engine: str, home: Path, **environment: str) -> Finished:
    arguments = ("run", "--target=cpu", f"--recipe={recipe}", f"--engine={engine}")
    return portwright.run(*arguments, HF_HOME=str(home), **environment)


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_model_and_data_come_from_the_hub_once(
    portwright: Portwright, hub: StubHub, recipe: Path, engine: str, tmp_path: Path
) -> None:
    home = tmp_path / "hf"
    done = run(portwright, recipe, engine, home, HF_ENDPOINT=hub.url)
    assert done.code == 0, done.text
    result = portwright.result("acme--tiny-bert", "hub")
    assert result["model"]["source"] == f"{MODEL}@main"
    assert result["data"]["source"].startswith(f"{DATASET}@main")
    assert any((home / "hub").glob("models--acme--tiny-bert/snapshots/*/config.json"))

    asked = len(hub.requests)
    assert run(portwright, recipe, engine, home, HF_ENDPOINT=NOWHERE).code == 0
    assert len(hub.requests) == asked

    # The model alone can be taken from the caller's own HF_HOME; streamed data can't, and is said to be missing.
    shutil.rmtree(portwright.artifacts / "store")
    gone = run(portwright, recipe, engine, home, HF_ENDPOINT=NOWHERE)
    assert gone.code == 2, gone.text
    assert "fetch_data" in gone.err
    assert "--data" in gone.err


@pytest.mark.scenario
def test_no_hub_is_said_with_what_to_do(portwright: Portwright, recipe: Path, tmp_path: Path) -> None:
    for environment in ({"HF_ENDPOINT": NOWHERE}, {"HF_HUB_OFFLINE": "1"}):
        done = run(portwright, recipe, "venv", tmp_path / "hf", **environment)
        assert done.code == 2, done.text
        assert "--model" in done.err
        assert "--data" in done.err
        assert MODEL in done.err or NOWHERE in done.err
        assert "Traceback" not in done.text
