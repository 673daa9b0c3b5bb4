"""Models and data from a hub: the real client libraries of the exporter toolchain, against a stand-in on loopback."""

from __future__ import annotations

import json
import socket
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.hub_repos import DATASET, MODEL
from support.stage_call import Stages
from support.stub_hub import StubHub

pytestmark = pytest.mark.scenario

FIELDS = ["premise", "hypothesis", "label"]
PARAMS = {"dataset": DATASET, "subset": "en", "split": "validation", "fields": FIELDS, "samples": 20}
PREPARE = """
import datasets, sys
datasets.load_dataset(sys.argv[1], sys.argv[2], split=sys.argv[3])
"""


@pytest.fixture
def stages(hub: StubHub, python: Path, tmp_path: Path) -> Stages:
    return Stages(tmp_path, python, {"HF_ENDPOINT": hub.url})


def unreachable(stages: Stages) -> Stages:
    """The same stages, and a hub that refuses connections: a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{probe.getsockname()[1]}"
    return replace(stages, root=stages.root / "unreachable", environment={"HF_ENDPOINT": endpoint})


def offline(stages: Stages) -> Stages:
    return replace(stages, root=stages.root / "offline", environment={**stages.environment, "HF_HUB_OFFLINE": "1"})


def test_a_model_arrives_whole_and_without_code(hub: StubHub, stages: Stages) -> None:
    repo = hub.repos[0]
    repo.files = {
        **repo.files,
        "modeling.py": b"raise SystemExit",
        "pytorch_model.bin": b"pickle",
        "1_Pooling/config.json": b"{}",
    }
    done = stages.run("fetch_model", {"id": MODEL}, network=True)
    taken = {path.relative_to(done.output).as_posix() for path in done.output.rglob("*") if path.is_file()}
    assert taken == {*repo.files} - {"modeling.py", "pytorch_model.bin"}
    assert all((done.output / name).read_bytes() == repo.files[name] for name in taken)
    assert not any(path.is_symlink() for path in done.output.rglob("*"))
    assert done.facts["commit"] == repo.sha
    assert done.facts["bytes"] == sum(len(repo.files[name]) for name in taken)
    assert not any("pytorch_model.bin" in asked or "modeling.py" in asked for asked in hub.requests)


def test_a_cached_model_needs_no_hub(hub: StubHub, stages: Stages) -> None:
    first = stages.run("fetch_model", {"id": MODEL}, network=True)
    cache = first.output.parent / "fills"
    for elsewhere in (unreachable(stages), offline(stages)):
        again = elsewhere.run("fetch_model", {"id": MODEL}, network=True, cache=cache)
        assert again.facts["origin"] == "cache"
        assert again.facts["commit"] == hub.repos[0].sha


def test_a_model_that_is_only_partly_cached_is_fetched(stages: Stages) -> None:
    cache = stages.run("fetch_model", {"id": MODEL}, network=True).output.parent / "fills"
    (weights,) = cache.rglob("snapshots/*/model.safetensors")
    weights.unlink()
    assert stages.run("fetch_model", {"id": MODEL}, network=True, cache=cache).facts["origin"] == "hub"
    kind, message, _ = offline(stages).run("fetch_model", {"id": MODEL}, network=True, cache=cache).failure
    assert kind == "model"
    assert "HF_HUB_OFFLINE" in message


def test_a_revision_of_a_pull_request(hub: StubHub, stages: Stages) -> None:
    hub.repos[0].branch = "refs/pr/1"
    done = stages.run("fetch_model", {"id": MODEL, "revision": "refs/pr/1"}, network=True)
    assert done.facts["commit"] == hub.repos[0].sha


@pytest.mark.parametrize("model_type", ["bert", "mine"])
def test_a_model_with_code_of_its_own_is_refused_before_its_weights_come(
    hub: StubHub, stages: Stages, model_type: str
) -> None:
    repo = hub.repos[0]
    asks = {"auto_map": {"AutoModel": "modeling.Mine"}, "model_type": model_type}
    repo.files = {**repo.files, "config.json": json.dumps(json.loads(repo.files["config.json"]) | asks).encode()}
    kind, message, _ = stages.run("fetch_model", {"id": MODEL}, network=True).failure
    assert kind == "model"
    assert f"{model_type!r}" in message
    assert not any(asked.startswith("GET") and repo.sha in asked and "safetensors" in asked for asked in hub.requests)


def test_what_is_wrong_with_a_model_is_said(hub: StubHub, stages: Stages) -> None:
    repo = hub.repos[0]
    pickled = {name.replace("model.safetensors", "pytorch_model.bin"): content for name, content in repo.files.items()}
    faults: list[tuple[dict[str, Any], dict[str, str], str]] = [
        ({}, {"id": "acme/none"}, "no model 'acme/none'"),
        ({}, {"id": MODEL, "revision": "v9"}, "no revision 'v9'"),
        ({"gated": True}, {"id": MODEL}, "gated"),
        ({"broken": True}, {"id": MODEL}, "status 500"),
        ({"files": pickled}, {"id": MODEL}, "pytorch_model.bin"),
    ]
    for change, params, words in faults:
        hub.repos[0] = replace(repo, **change)
        kind, message, hint = stages.run("fetch_model", params, network=True).failure
        assert kind == "model"
        assert words in message
        assert "--model=<folder>" in hint
    kind, message, hint = unreachable(stages).run("fetch_model", {"id": MODEL}, network=True).failure
    assert (kind, "Connection refused" in message, "--model=<folder>" in hint) == ("model", True, True)
    assert "http://127.0.0.1:" in message


def test_rows_are_streamed_in_order_and_distinct(hub: StubHub, stages: Stages) -> None:
    done = stages.run("fetch_data", PARAMS, network=True)
    lines = [json.loads(line) for line in (done.output / "rows.jsonl").read_text().splitlines()]
    assert [list(line) for line in lines] == [FIELDS] * 20
    assert [line["hypothesis"] for line in lines] == [f"hypothesis {number}" for number in range(20)]
    assert {key: done.facts[key] for key in ("read", "kept", "repeated", "commit")} == {
        "read": 21,
        "kept": 20,
        "repeated": 1,
        "commit": hub.repos[1].sha,
    }


def test_data_prepared_before_serves_without_the_hub(hub: StubHub, stages: Stages, tmp_path: Path) -> None:
    home = tmp_path / "home"
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "PATH": "/usr/bin:/bin"}
    subprocess.run([str(stages.python), "-c", PREPARE, DATASET, "en", "validation"], env=environment, check=True)
    before = sorted(path for path in home.rglob("*"))
    hub.requests.clear()
    done = offline(stages).run("fetch_data", PARAMS, network=True, cache=home)
    assert (done.facts["origin"], done.facts["commit"], done.facts["kept"]) == ("cache", hub.repos[1].sha, 20)
    assert hub.requests == []
    assert sorted(path for path in home.rglob("*")) == before


def test_what_is_wrong_with_data_is_said(stages: Stages) -> None:
    faults: list[tuple[dict[str, Any], tuple[str, ...]]] = [
        ({"dataset": "acme/none"}, ("no dataset 'acme/none'",)),
        ({"revision": "v9"}, ("no revision 'v9'",)),
        ({"subset": "de"}, ("'de'", "'en'")),
        ({"split": "train"}, ("train", "validation")),
        ({"fields": ["text"]}, ("'text'", "premise, hypothesis, label")),
    ]
    for change, words in faults:
        kind, message, hint = stages.run("fetch_data", {**PARAMS, **change}, network=True).failure
        assert kind == "data"
        assert [word for word in words if word not in message] == [], message
        assert hint
    kind, message, hint = unreachable(stages).run("fetch_data", PARAMS, network=True).failure
    assert (kind, "Connection refused" in message, "--data=<file>" in hint) == ("data", True, True)
    kind, message, _ = offline(stages).run("fetch_data", PARAMS, network=True).failure
    assert (kind, "HF_HUB_OFFLINE" in message) == ("data", True)
