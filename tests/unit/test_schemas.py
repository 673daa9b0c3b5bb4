"""The committed schemas are those of the models that read the files."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest

from portwright.project import this_project
from portwright.schemas import schemas

PROJECT = this_project()


@pytest.mark.parametrize(
    "name", ["recipe.schema.json", "target.schema.json", "result.schema.json", "report.schema.json"]
)
def test_a_schema_is_fresh(name: str) -> None:
    text = schemas(PROJECT)[name]
    assert (PROJECT.schemas / name).read_text() == text, "stale: run `make schemas`"
    jsonschema.Draft202012Validator.check_schema(json.loads(text))


@pytest.mark.parametrize("path", sorted(PROJECT.targets.glob("*/recipes/*.json")), ids=lambda path: path.stem)
def test_recipes_fit_the_schema_that_editors_use(path: Path) -> None:
    jsonschema.validate(json.loads(path.read_text()), json.loads((PROJECT.schemas / "recipe.schema.json").read_text()))


@pytest.mark.parametrize("path", sorted(PROJECT.targets.glob("*/target.toml")), ids=lambda path: path.parent.name)
def test_targets_fit_theirs(path: Path) -> None:
    jsonschema.validate(
        tomllib.loads(path.read_text()), json.loads((PROJECT.schemas / "target.schema.json").read_text())
    )
