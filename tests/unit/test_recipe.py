"""Recipes: what is accepted, and that what is refused is named."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from portwright.errors import PortwrightError, RecipeError
from portwright.project import this_project
from portwright.recipe import load_recipe
from portwright.stages import StageLibrary

PROJECT = this_project()
LIBRARY = StageLibrary(PROJECT.shared)
GOOD: dict[str, Any] = {
    "name": "good",
    "description": "A recipe.",
    "target": "cpu",
    "model": {"source": "org/name"},
    "data": {"texts": {"dataset": "org/texts", "split": "train", "fields": ["text"], "samples": 20}},
    "calibration": {"data": "texts", "field": "text", "samples": 8},
    "evaluation": {"data": "texts", "field": "text", "samples": 8},
    "stages": [{"stage": "export", "opset": 17}, {"stage": "fix_shape"}],
    "gates": {"similarity": {"mean": 0.9}, "placement": {"on": ["CPUExecutionProvider"]}},
}


def write(folder: Path, value: object) -> Path:
    path = folder / "good.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def with_change(place: str, value: object) -> dict[str, Any]:
    """GOOD with one place changed; DELETE removes it."""
    recipe = copy.deepcopy(GOOD)
    *path, last = place.split(".")
    node: Any = recipe
    for part in path:
        node = node[int(part) if part.isdigit() else part]
    if value is DELETE:
        del node[last]
    else:
        node[int(last) if last.isdigit() else last] = value
    return recipe


DELETE = object()


def test_a_good_recipe_is_read(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, GOOD), LIBRARY)
    assert recipe.input.sequence_length == 128
    assert recipe.path.name == "good.json"


@pytest.mark.parametrize("path", sorted(PROJECT.targets.glob("*/recipes/*.json")), ids=lambda path: path.stem)
def test_every_recipe_of_the_repository_is_good(path: Path) -> None:
    assert load_recipe(path, LIBRARY).name == path.stem


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("modle", {}, ["modle", "did you mean 'model'"]),
        ("colour", {}, ["colour", "known: ", "stages"]),
        ("name", DELETE, ["name", "is missing"]),
        ("name", "../up", ["name", "pattern"]),
        ("stages", [], ["stages: is empty"]),
        ("stages", "export", ["stages"]),
        ("stages.1", {"stage": "fix_shap"}, ["stages[1].stage", "fix_shap", "did you mean 'fix_shape'"]),
        ("stages.1", {"opset": 3}, ["stages[1].stage", "is missing"]),
        ("stages.0", {"stage": "export", "opste": 17}, ["stages[0].opste", "did you mean 'opset'"]),
        ("stages.0", {"stage": "export", "opset": "17"}, ["stages[0].opset", '"17"']),
        ("stages.0", {"stage": "export", "opset": True}, ["stages[0].opset"]),
        ("stages.1", {"stage": "fix_shape", "sequence_length": 64}, ["sequence_length", "input"]),
        ("stages.1", {"stage": "tokenize"}, ["stages[1].stage", "tokenize"]),
        ("input", {"sequence_length": 0}, ["input.sequence_length", "greater than or equal to 2"]),
        ("input", {"sequence_lenght": 64}, ["input.sequence_lenght", "did you mean 'sequence_length'"]),
        ("evaluation.data", "xnli", ["xnli", "texts"]),
        ("evaluation.field", "premise", ["premise", "text"]),
        ("evaluation.samples", 0, ["evaluation.samples", "greater than or equal to 1"]),
        ("evaluation", DELETE, ["evaluation", "is missing"]),
        ("gates.similarity", DELETE, ["gates.similarity", "is missing"]),
        ("gates.placement", DELETE, ["gates.placement", "is missing"]),
        ("gates.similarity.mean", 1.5, ["gates.similarity.mean", "less than or equal to 1"]),
        ("gates.placement.on", [], ["gates.placement.on"]),
        ("benchmark", {"min_run": 3}, ["benchmark.min_run", "did you mean 'min_runs'"]),
        ("benchmark", {"min_seconds": 9.0, "max_seconds": 1.0}, ["benchmark", "min_seconds must lie between"]),
        ("benchmark", {"search_seconds": 1e9}, ["benchmark", "search_seconds must lie between 0 and 60"]),
        ("stages.0", {"stage": "export", "opset": 99}, ["stages[0]", "opset must be 14 to 20"]),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, place: str, value: object, words: list[str]) -> None:
    path = write(tmp_path, with_change(place, value))
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, LIBRARY)
    text = str(caught.value)
    assert str(path) in text
    assert [word for word in words if word not in text] == [], text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["line 1"]),
        ("{", ["line 1"]),
        ("[]", ["JSON object"]),
        ("null", ["JSON object"]),
        ('{"name": "a", "name": "b"}', ["'name' stands twice"]),
        ('{"name": NaN}', ["NaN"]),
        ('{"input": {"batch_size": 1' + "0" * 5000 + "}}", ["a number that can't be"]),
        ('{"gates": {"similarity": {"mean": 1e999}}}', ["gates.similarity.mean", "finite"]),
        ("[" * 100_000, ["nested too deeply"]),
    ],
)
def test_text_that_is_no_recipe(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(tmp_path, text), LIBRARY)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_recipe(path, LIBRARY).name == "good"


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "good.json"
    path.write_bytes(b"{\xff}")
    with pytest.raises(PortwrightError, match="not UTF-8"):
        load_recipe(path, LIBRARY)
