"""A run is packed, unpacked elsewhere, installed into an empty environment, checked and measured; the host reads it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from portwright.bundle import BundleRequest, bundle
from portwright.errors import GateError, UsageError
from portwright.project import ARTIFACTS_VARIABLE, Project
from portwright.readback import markdown, read_result
from stagelib.digests import digest_files
from support.checkout import EVERY_PASS, brief_checkout
from support.commands import ROOT, Portwright
from support.seeds import Seeds

pytestmark = pytest.mark.scenario
RECIPE = "bert-base-portuguese-cased_fp32_cpu"
TIMEOUT_S = 600
FEW = 72


@pytest.fixture(scope="module")
def checkout(
    tmp_path_factory: pytest.TempPathFactory, venvs: Path, seeds: Seeds, minilm: Path, texts: Path
) -> Portwright:
    """A checkout that measures briefly, and a host volume with a passed run."""
    artifacts = tmp_path_factory.mktemp("artifacts")
    venvs.mkdir(parents=True, exist_ok=True)
    (artifacts / "venvs").symlink_to(venvs)
    copy = brief_checkout(tmp_path_factory.mktemp("bundle") / "checkout", Portwright(artifacts), EVERY_PASS)
    seeds.hand_on(copy, minilm, 17)
    few = copy.root / "few.jsonl"  # too few for accuracy, which no bundle holds
    few.write_text("".join(texts.read_text().splitlines(keepends=True)[:FEW]))
    options = ("--target=cpu", f"--recipe={RECIPE}", f"--model={minilm}", f"--data={few}", "--engine=venv")
    done = copy.run("run", *options)
    assert done.code == 0, done.text
    return copy


@pytest.fixture
def packed(checkout: Portwright, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The checkout, on that volume."""
    monkeypatch.setenv(ARTIFACTS_VARIABLE, str(checkout.artifacts))
    return Project(checkout.root)


def python(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python as on a device: nothing of the checkout in its path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(argument) for argument in arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def test_a_bundle_goes_to_a_device_and_its_result_comes_back(packed: Project, minilm: Path, tmp_path: Path) -> None:
    plain = BundleRequest(recipe=RECIPE, model=str(minilm), out=str(tmp_path / "b.zip"))
    (made,) = bundle(packed, plain)
    with zipfile.ZipFile(made.path) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "device")
    assert {"README.txt", "requirements.txt", "deploy/model.onnx", "stagelib/runner/__main__.py"} <= names
    assert not {name for name in names if name.startswith(("portwright", "reference"))}
    digest = digest_files(made.path)
    bundle(packed, plain)
    assert digest_files(made.path) == digest

    outside = tmp_path / "outside"
    outside.mkdir()
    script = ROOT / "scripts" / "on_device.py"
    done = python(sys.executable, script, made.path, f"--out={tmp_path / 'results'}", cwd=outside)
    assert done.returncode == 0, done.stdout + done.stderr
    result = read_result(tmp_path / "results" / "result.json")
    assert (result.engine, result.recipe, result.status, result.executed_on) == ("bundle", RECIPE, "passed", "cpu")
    assert result.latency_ms is not None
    assert result.latency_ms.min > 0
    assert (result.latency_ratio, result.similarity.samples) == (None, 0)
    assert {gate.name: gate.passed for gate in result.gates} == {"placement": True, "golden": True}
    assert f"| cpu | {RECIPE} | passed | CPU |" in markdown([result])
    refuses_what_is_damaged(tmp_path / "device")


def refuses_what_is_damaged(device: Path) -> None:
    # numpy and onnxruntime aren't on this interpreter's path: what is damaged is found before they are asked for.
    golden = device / "deploy" / "golden.npz"
    with np.load(golden) as arrays:
        changed = {name: arrays[name] for name in arrays.files}
    changed["embedding"] = -changed["embedding"]
    np.savez(golden, **changed)
    done = python(sys.executable, "-m", "stagelib.runner", "verify", cwd=device)
    assert done.returncode == 1
    assert "FAIL files: deploy/golden.npz is damaged" in done.stdout


def test_with_the_reference_the_device_judges_as_the_host_does(packed: Project, minilm: Path, tmp_path: Path) -> None:
    request = BundleRequest(recipe=RECIPE, model=str(minilm), out=str(tmp_path / "b.zip"), reference=True)
    (made,) = bundle(packed, request)
    done = python(sys.executable, ROOT / "scripts" / "on_device.py", made.path, f"--out={tmp_path}", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    result = read_result(tmp_path / "result.json")
    assert result.latency_ratio is not None
    assert result.baseline_latency_ms is not None
    assert result.similarity.mean == pytest.approx(1.0, abs=1e-6)
    assert {"similarity.mean", "similarity.min"} <= {gate.name for gate in result.gates}


def test_what_must_not_ship_is_not_packed(packed: Project, minilm: Path, tmp_path: Path) -> None:
    request = BundleRequest(recipe=RECIPE, model=str(minilm), out=str(tmp_path / "b.zip"))
    path = packed.artifacts / "runs" / "minilm" / RECIPE / "result.json"
    kept = path.read_text()
    path.write_text(json.dumps({**json.loads(kept), "status": "failed"}))
    with pytest.raises(GateError, match="was rejected"):
        bundle(packed, request)
    path.write_text(json.dumps({**json.loads(kept), "recipe_digest": "0" * 64}))
    with pytest.raises(UsageError, match="was edited since its last run"):
        bundle(packed, request)
    path.write_text(kept)
    other = BundleRequest(recipe="bert-base-portuguese-cased_qdq_cpu", model=str(minilm), out=str(tmp_path / "b.zip"))
    with pytest.raises(UsageError, match="was not run on model"):
        bundle(packed, other)
    assert not (tmp_path / "b.zip").exists()
