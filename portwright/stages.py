"""The host's view of the stage library: declarations and source digests, never a vendor package."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from portwright.digests import digest_file, digest_json
from portwright.errors import RecipeError
from portwright.naming import suggestion
from stagelib.api import Stage

# `stagelib.a.b`, with the names it imports where an import follows, in parentheses or on one (continued) line. Parsing
# every file for its syntax tree would take most of a plan's time; a mention too many costs a stage nothing but a rerun.
# That no letter goes before the name is asked behind it: `re` looks for a leading literal at once, else place by place.
_MENTION = re.compile(
    r"(stagelib(?<!\wstagelib)(?:\.[A-Za-z_0-9]+)*)"
    r"(?:[ \t]+import\b(?:[ \t]|\\\n)*(\((?:#[^\n]*|[^#)])*\)|(?:[^\n;\\]|\\\n)*))?"
)
_NAME = re.compile(r"[A-Za-z_0-9]+")
FILLED_BY_SHAPE = ("batch_size", "sequence_length")
FILLED_BY_RUNTIME = ("runtime", "device")
_FILLED: dict[tuple[type, str], dict[str, Any]] = {}
"""Parameters with their defaults, by what was given: most calls of a plan are given what others are."""


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
        asked = self.stage.params, repr(given)
        if asked not in _FILLED:
            # Through JSON: strict mode takes a list for a tuple, and an object for a dataclass, only there.
            filled = self.adapter().validate_json(json.dumps(dict(given)))
            _FILLED[asked] = self.adapter().dump_python(filled, mode="json")
        return dict(_FILLED[asked])


class StageLibrary:
    """`shared/stagelib/`, read for its declarations."""

    def __init__(self, shared: Path) -> None:
        self._root = shared
        self._sources: dict[Path, str] = {}
        self._digests: dict[tuple[str, ...], str] = {}
        self._declared: dict[str, Declaration] = {}

    @cached_property
    def _files(self) -> dict[str, Path]:
        """Every file of the library by its module's name."""
        found: dict[str, Path] = {}
        for path in sorted(self._root.glob("stagelib/**/*.py")):
            parts = path.relative_to(self._root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        return found

    def _names_in(self, package: str) -> list[str]:
        """The modules of a package, by their last names."""
        split = [name.rpartition(".") for name in self._files]
        return sorted(name for parent, _, name in split if parent == f"stagelib.{package}")

    @cached_property
    def names(self) -> list[str]:
        """Every stage, by file name."""
        return self._names_in("stages")

    @cached_property
    def recipe_stages(self) -> dict[str, Declaration]:
        """The stages that a recipe may list, by name."""
        return {name: declaration for name in self.names if not (declaration := self.get(name)).stage.internal}

    def for_recipes(self, name: object) -> Declaration | None:
        """The declaration of a stage that a recipe may list; None for any other name."""
        found = self.get(name) if isinstance(name, str) and name in self.names else None
        return None if found is None or found.stage.internal else found

    def get(self, name: str) -> Declaration:
        """The declaration of a stage; RecipeError for an unknown one."""
        if name not in self._declared:
            if name not in self.names:
                raise RecipeError(f"unknown stage {name!r}", hint=suggestion(name, self.names))
            self._declared[name] = Declaration(name, _module(f"stagelib.stages.{name}").STAGE)
        return self._declared[name]

    def runtime_packages(self, runtime: str) -> tuple[str, ...]:
        """Distributions that a runtime needs; RecipeError for an unknown one."""
        packages: tuple[str, ...] = self._runtime(runtime).PACKAGES
        return packages

    def runtime_formats(self, runtime: str) -> tuple[str, ...]:
        """Formats of models that a runtime loads; RecipeError for an unknown one."""
        formats: tuple[str, ...] = self._runtime(runtime).FORMATS
        return formats

    @cached_property
    def _runtimes(self) -> set[str]:
        return set(self._names_in("runtimes")) - {"base"}

    def _runtime(self, name: str) -> ModuleType:
        if name not in self._runtimes:
            raise RecipeError(f"unknown runtime {name!r}", hint=suggestion(name, self._runtimes))
        return _module(f"stagelib.runtimes.{name}")

    def source_digest(self, *modules: str) -> str:
        """Digest of modules and of everything in stagelib that they import, wherever the import stands."""
        if modules not in self._digests:
            digests = {module: self._digest(path) for module, path in self.sources(*modules).items()}
            self._digests[modules] = digest_json(digests)
        return self._digests[modules]

    def sources(self, *modules: str) -> dict[str, Path]:
        """The files of modules and of everything in stagelib that they import, by module name."""
        files: dict[str, Path] = {}
        pending = list(modules)
        while pending:
            module = pending.pop()
            path = self._files.get(module)
            if path is None or module in files:
                continue
            files[module] = path
            pending.extend(_mentions(path, self._digest(path)))
        return files

    def packed(self, *modules: str) -> dict[str, Path]:
        """The files of `sources` by their paths below `shared/`, the packages they lie in included: they run alone."""
        found = set(self.sources(*modules).values())
        for path in list(found):
            found |= {
                parent / "__init__.py" for parent in path.parents if parent.is_relative_to(self._root / "stagelib")
            }
        return {path.relative_to(self._root).as_posix(): path for path in sorted(found)}

    def _digest(self, path: Path) -> str:
        if path not in self._sources:
            self._sources[path] = digest_file(path)
        return self._sources[path]


@cache
def _mentions(path: Path, digest: str) -> tuple[str, ...]:
    """Names of stagelib that a file mentions: its imports, and strings as in `python -m stagelib.worker`.

    Cached for a file as it is: `digest` is its content's.
    """
    del digest
    found: set[str] = set()
    for module, names in _MENTION.findall(path.read_text()):
        found |= {module} | {f"{module}.{name}" for name in _NAME.findall(names)}
    return tuple(sorted(found))


@cache
def _module(name: str) -> ModuleType:
    return importlib.import_module(name)


@cache
def _adapter(params: type) -> TypeAdapter[Any]:
    # A stdlib dataclass knows nothing of pydantic: the strictness is laid over it here, not in the stage library.
    params.__pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)  # type: ignore[attr-defined]
    return TypeAdapter(params)
