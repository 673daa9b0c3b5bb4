"""JSON Schemas of recipe, target, result and report, generated from the models that read them.

`python -m portwright.schemas` writes them; a test fails when they are stale.
"""

from __future__ import annotations

import json
from typing import Any

from portwright.project import Project, this_project
from portwright.recipe import Recipe
from portwright.report.document import Report
from portwright.results import RunResult
from portwright.stages import Declaration, StageLibrary
from portwright.target_file import TargetFile


def schemas(project: Project) -> dict[str, str]:
    """File name to content."""
    documents = {
        "recipe.schema.json": _recipe(StageLibrary(project.shared)),
        "target.schema.json": TargetFile.model_json_schema(),
        "result.schema.json": RunResult.model_json_schema(mode="serialization"),
        "report.schema.json": Report.model_json_schema(mode="serialization"),
    }
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {name: json.dumps(dialect | document, indent=2) + "\n" for name, document in documents.items()}


def _recipe(library: StageLibrary) -> dict[str, Any]:
    """The recipe's schema, with one alternative a stage in place of the open object that pydantic knows."""
    document = Recipe.model_json_schema(by_alias=True)
    definitions = document.setdefault("$defs", {})
    names = []
    for declaration in library.recipe_stages.values():
        name = f"stage_{declaration.name}"
        names.append(name)
        definitions[name] = _stage(declaration)
    document["properties"]["stages"]["items"] = {"oneOf": [{"$ref": f"#/$defs/{name}"} for name in names]}
    benchmark = _stage(library.get("benchmark"))
    del benchmark["properties"]["stage"]
    document["properties"]["benchmark"] = {**benchmark, "required": []}
    return document


def _stage(declaration: Declaration) -> dict[str, Any]:
    parameters = declaration.adapter().json_schema()
    properties = {name: parameters["properties"][name] for name in declaration.parameter_names}
    required = [name for name in parameters.get("required", []) if name in properties]
    return {
        "title": declaration.name,
        "description": declaration.stage.summary,
        "type": "object",
        "additionalProperties": False,
        "required": ["stage", *required],
        "properties": {"stage": {"const": declaration.name}, **properties},
    }


def main() -> None:
    """Write every schema."""
    project = this_project()
    project.schemas.mkdir(exist_ok=True)
    for name, text in schemas(project).items():
        (project.schemas / name).write_text(text)
        print(name)


if __name__ == "__main__":
    main()
