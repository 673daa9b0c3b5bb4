"""The host's view of the stage library: declarations and source digests, never a vendor package."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from portwright.digests import digest_file, digest_json
from portwright.errors import RecipeError
from portwright.naming import suggestion
from stagelib.api import Stage

_MODULE_STRING = re.compile(r"^stagelib(\.[a-z_0-9]+)+$")
FILLED_BY_SHAPE = ("batch_size", "sequence_length")
FILLED_BY_RUNTIME = ("runtime", "device")


@dataclass(frozen=True)
class Declaration:
    """A stage as the planner sees it."""

    name: str
    stage: Stage

    @property
    def filled(self) -> tuple[str, ...]:
        """Parameters that the planner fills from the recipe's shape and the target's runtime."""
        return (FILLED_BY_SHAPE if self.stage.shaped else ()) + (FILLED_BY_RUNTIME if self.stage.runtime else ())

    @property
    def parameter_names(self) -> list[str]:
        return [field.name for field in dataclasses.fields(self.stage.params) if field.name not in self.filled]

    def adapter(self) -> TypeAdapter[Any]:
        return _adapter(self.stage.params)

    def fill(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters as JSON values, defaults filled in; pydantic.ValidationError where one is wrong."""
        adapter = self.adapter()
        # Through JSON: strict mode takes a list for a tuple, and an object for a dataclass, only there.
        filled = adapter.validate_json(json.dumps(dict(given)))
        dumped: dict[str, Any] = adapter.dump_python(filled, mode="json")
        return dumped


class StageLibrary:
    """`shared/stagelib/`, read for its declarations."""

    def __init__(self, shared: Path) -> None:
        self._root = shared
        self._sources: dict[str, str] = {}

    def names(self) -> list[str]:
        """Every stage, by file name."""
        folder = self._root / "stagelib" / "stages"
        return sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")

    def recipe_stages(self) -> list[Declaration]:
        """The stages that a recipe may list."""
        return [declaration for name in self.names() if not (declaration := self.get(name)).stage.internal]

    def get(self, name: str) -> Declaration:
        """The declaration of a stage; RecipeError for an unknown one."""
        if name not in self.names():
            raise RecipeError(f"unknown stage {name!r}", hint=suggestion(name, self.names()))
        return Declaration(name, _module(f"stagelib.stages.{name}").STAGE)

    def runtime_packages(self, runtime: str) -> tuple[str, ...]:
        """Distributions that a runtime needs; RecipeError for an unknown one."""
        packages: tuple[str, ...] = self._runtime(runtime).PACKAGES
        return packages

    def runtime_formats(self, runtime: str) -> tuple[str, ...]:
        """Formats of models that a runtime loads; RecipeError for an unknown one."""
        formats: tuple[str, ...] = self._runtime(runtime).FORMATS
        return formats

    def _runtime(self, name: str) -> ModuleType:
        folder = self._root / "stagelib" / "runtimes"
        known = {path.stem for path in folder.glob("*.py")} - {"__init__", "base"}
        if name not in known:
            raise RecipeError(f"unknown runtime {name!r}", hint=suggestion(name, known))
        return _module(f"stagelib.runtimes.{name}")

    def source_digest(self, *modules: str) -> str:
        """Digest of modules and of everything in stagelib that they import, wherever the import stands."""
        return digest_json({module: self._digest(path) for module, path in self.sources(*modules).items()})

    def sources(self, *modules: str) -> dict[str, Path]:
        """The files of modules and of everything in stagelib that they import, by module name."""
        files: dict[str, Path] = {}
        pending = list(modules)
        while pending:
            module = pending.pop()
            path = self._path(module)
            if path is None or module in files:
                continue
            files[module] = path
            pending.extend(_imports(path))
        return files

    def packed(self, *modules: str) -> dict[str, Path]:
        """The files of `sources` by their paths below `shared/`, the packages they lie in included: they run alone."""
        found = set(self.sources(*modules).values())
        for path in list(found):
            found |= {
                parent / "__init__.py" for parent in path.parents if parent.is_relative_to(self._root / "stagelib")
            }
        return {path.relative_to(self._root).as_posix(): path for path in sorted(found)}

    def _path(self, module: str) -> Path | None:
        path = self._root.joinpath(*module.split("."))
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                return candidate
        return None

    def _digest(self, path: Path) -> str:
        name = str(path)
        if name not in self._sources:
            self._sources[name] = digest_file(path)
        return self._sources[name]


@cache
def _imports(path: Path) -> tuple[str, ...]:
    """Modules of stagelib that a file names in an import, or as a string (`python -m stagelib.worker`)."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _MODULE_STRING.match(node.value):
            found.add(node.value)
    return tuple(sorted(name for name in found if name.split(".")[0] == "stagelib"))


@cache
def _module(name: str) -> ModuleType:
    return importlib.import_module(name)


@cache
def _adapter(params: type) -> TypeAdapter[Any]:
    # A stdlib dataclass knows nothing of pydantic: the strictness is laid over it here, not in the stage library.
    params.__pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)  # type: ignore[attr-defined]
    return TypeAdapter(params)
