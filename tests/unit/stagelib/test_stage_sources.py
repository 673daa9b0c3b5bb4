"""What the host reads of the stage library: source digests that miss nothing, modules it can import without numpy."""

from __future__ import annotations

import ast
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from portwright.digests import digest_file
from portwright.project import this_project
from portwright.stages import StageLibrary, _mentions

SHARED = this_project().shared
STAGES = sorted(path.stem for path in (SHARED / "stagelib" / "stages").glob("*.py"))


def test_a_stages_source_is_its_module_and_what_that_imports(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shutil.copytree(SHARED / "stagelib", shared / "stagelib")
    before = StageLibrary(shared).source_digest("stagelib.stages.benchmark")
    unrelated = shared / "stagelib" / "stages" / "export.py"
    unrelated.write_text(unrelated.read_text() + "# a comment\n")
    assert StageLibrary(shared).source_digest("stagelib.stages.benchmark") == before
    worker = shared / "stagelib" / "measure.py"
    worker.write_text(worker.read_text() + "# a comment\n")
    assert StageLibrary(shared).source_digest("stagelib.stages.benchmark") != before


@pytest.mark.parametrize("stage", ["benchmark", "emulate"])
def test_the_baseline_s_runtime_is_part_of_what_it_is_compared_in(tmp_path: Path, stage: str) -> None:
    shared = tmp_path / "shared"
    shutil.copytree(SHARED, shared, ignore=shutil.ignore_patterns("__pycache__"))
    module = f"stagelib.stages.{stage}"
    before = StageLibrary(shared).source_digest(module)
    assert before == StageLibrary(SHARED).source_digest(module)
    with (shared / "stagelib" / "runtimes" / "onnxruntime.py").open("a") as file:
        file.write("# changed\n")
    assert before != StageLibrary(shared).source_digest(module)


def test_an_import_that_is_added_counts_at_once(tmp_path: Path) -> None:
    """Also in one process, for which a file that was read once is not read again unless it changed."""
    (tmp_path / "stagelib").mkdir()
    for name, text in (("one", ""), ("two", "A = 1\n")):
        (tmp_path / "stagelib" / f"{name}.py").write_text(text)
    assert set(StageLibrary(tmp_path).sources("stagelib.one")) == {"stagelib.one"}
    (tmp_path / "stagelib" / "one.py").write_text("from stagelib.two import A\n")
    assert set(StageLibrary(tmp_path).sources("stagelib.one")) == {"stagelib.one", "stagelib.two"}


def mentions(path: Path) -> set[str]:
    return set(_mentions(path, digest_file(path)))


def syntax_says(path: Path) -> set[str]:
    """Modules of stagelib that a file imports or names in a string, by its syntax tree."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value:
            found.add(node.value)
    return found


def test_no_import_is_overlooked() -> None:
    library = StageLibrary(SHARED)
    for path in SHARED.glob("stagelib/**/*.py"):
        said = {name for name in syntax_says(path) if name in library._files}
        assert said <= mentions(path), path


@pytest.mark.parametrize(
    "text",
    [
        "from stagelib import (\n    a,  # why\n    b as c,\n)\n",
        "from stagelib import (  # these (and no others)\n    a,  # first)\n    b,\n)\n",
        "if x: from stagelib import a, b\n",
        "from stagelib import a, \\\n    b\n",
        "import os, stagelib.a; import stagelib.b as c\n",
        "run('-m', 'stagelib.a', \"stagelib.b\")\n",
    ],
)
def test_imports_are_found_however_they_are_written(tmp_path: Path, text: str) -> None:
    path = tmp_path / "module.py"
    path.write_text(text)
    assert {"stagelib.a", "stagelib.b"} <= mentions(path)


def imported_at_the_top(module: str) -> Iterator[str]:
    """Modules that importing `module` imports, itself first, through stagelib and to its border."""
    pending, seen = [module], set[str]()
    while pending:
        name = pending.pop()
        path = SHARED.joinpath(*name.split(".")).with_suffix(".py")
        if name in seen or (name.startswith("stagelib") and not path.is_file()):
            continue
        seen.add(name)
        yield name
        for node in ast.parse(path.read_text()).body if name.startswith("stagelib.") else ():
            if isinstance(node, ast.Import):
                pending += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                inside = node.module.startswith("stagelib")
                pending += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names if inside)]


@pytest.mark.parametrize("module", [*(f"stagelib.stages.{stage}" for stage in STAGES), "stagelib.rows"])
def test_the_host_can_import_it_with_the_standard_library_alone(module: str) -> None:
    tops = {name.split(".")[0] for name in imported_at_the_top(module)}
    assert tops <= {*sys.stdlib_module_names, "stagelib"}
