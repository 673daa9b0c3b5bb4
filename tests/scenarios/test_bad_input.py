"""Bad input, as a user meets it: one clear message, the right exit code, no traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.checkout import brief_checkout
from support.commands import ROOT, Portwright, read_json
from support.seeds import Seeds

QDQ_PATH = ROOT / "targets" / "cpu" / "recipes" / "bert-base-portuguese-cased_qdq_cpu.json"
CASES: list[tuple[tuple[str, ...], int, tuple[str, ...]]] = [
    (("run", "--target=opnvino"), 2, ("opnvino", "did you mean 'openvino'")),
    (("run", "--target="), 2, ("--target is empty",)),
    (("run", "--target=cpu", "--recipe=nonsense"), 2, ("nonsense", "known:")),
    (("run", "--target=cpu", "--recipe=/nowhere/r.json"), 2, ("/nowhere/r.json",)),
    (("run", "--target=cpu", "--engine=podman"), 2, ("podman", "docker, venv")),
    (("run", "--target=cpu", "--model=./nowhere"), 2, ("nowhere", "--model")),
    (("run", "--target=cpu", "--model="), 2, ("--model is empty",)),
    (("run", "--target=cpu", "--model=synthetic:gpt-9"), 2, ("gpt-9", "bert-base")),
    (("run", "--target=cpu", "--data=/nowhere/t.jsonl"), 2, ("/nowhere/t.jsonl",)),
    (("run", "--target=cpu", "--engine=docker"), 4, ("nowhere/docker.sock", "docker")),
    (("build", "--target=cpu", "--engine=docker"), 4, ("nowhere/docker.sock", "docker")),
    (("plan", "--target=nonsense"), 2, ("nonsense", "known:")),
]


@pytest.mark.scenario
@pytest.mark.parametrize(("arguments", "code", "words"), CASES, ids=[" ".join(case[0]) for case in CASES])
def test_what_is_wrong_is_said(
    portwright: Portwright, arguments: tuple[str, ...], code: int, words: tuple[str, ...]
) -> None:
    done = portwright.run(*arguments, DOCKER_HOST="unix:///nowhere/docker.sock")
    assert done.code == code, done.text
    assert "error: " in done.err
    assert "Traceback" not in done.text
    assert [word for word in words if word not in done.err] == [], done.err


@pytest.mark.scenario
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"premise": "a", "hypothesis": "b", "label": 0}\n{"premise": \n', ("line 2",)),
        ('{"texto": "a"}\n', ("premise", "texto")),
        ('{"premise": 3, "hypothesis": "b", "label": 0}\n', ("premise", "line 1")),
        ("\n\n", ("empty",)),
    ],
)
def test_data_that_can_not_serve(portwright: Portwright, tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text(text)
    done = portwright.run("run", "--target=cpu", "--model=synthetic:bert-tiny", f"--data={path}", "--engine=venv")
    assert done.code == 2, done.text
    assert "Traceback" not in done.text
    assert "texts.jsonl" in done.err
    assert [word for word in words if word not in done.err] == [], done.err


@pytest.mark.scenario
def test_a_host_volume_that_can_not_be_written(tmp_path: Path, texts: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    portwright = Portwright(blocked / "artifacts")
    done = portwright.run("run", "--target=cpu", "--model=synthetic:bert-tiny", f"--data={texts}", "--engine=venv")
    assert done.code == 6, done.text
    assert str(blocked) in done.err
    assert "Traceback" not in done.text


@pytest.mark.scenario
def test_one_recipes_failure_does_not_stop_the_others(portwright: Portwright, seeds: Seeds, tmp_path: Path) -> None:
    checkout = brief_checkout(tmp_path / "checkout", portwright)
    seeds.hand_on(checkout, "synthetic:bert-tiny", 17)
    recipe = read_json(QDQ_PATH)
    assert recipe["name"]
    few = tmp_path / "few.jsonl"
    few.write_text(
        "".join(json.dumps({"premise": line, "hypothesis": "", "label": 0}) + "\n" for line in ("a b", "c d"))
    )
    arguments = ("run", "--target=cpu,openvino", "--model=synthetic:bert-tiny", f"--data={few}", "--engine=venv")
    done = checkout.run(*arguments)
    assert done.code == 2, done.text
    assert "text" in done.err
    assert checkout.result("synthetic-bert-tiny-seed-0", recipe["name"])["target"] == "cpu"
