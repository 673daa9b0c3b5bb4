"""The house's rules, as DESIGN and the docs state them: who may import whom, and what lies where."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from portwright.project import this_project

ROOT = this_project().root
VENDORS = {"torch", "transformers", "datasets", "onnx", "onnxruntime", "openvino", "nncf", "optimum", "numpy"}
LIBRARY = sorted((ROOT / "shared" / "stagelib").rglob("*.py"))
HOST = [*sorted((ROOT / "portwright").rglob("*.py")), ROOT / "tasks.py"]


def imported(path: Path, *, top_only: bool) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_the_stage_library_knows_nothing_of_the_host(path: Path) -> None:
    assert "portwright" not in imported(path, top_only=False)
    # A module that wraps a vendor package imports that one; no toolchain holds two vendors' for it.
    assert len(imported(path, top_only=True) & (VENDORS - {"numpy"})) <= 1


@pytest.mark.parametrize("path", [path for path in LIBRARY if path.parent.name == "stages"], ids=lambda path: path.stem)
def test_a_declaration_is_read_without_any_package(path: Path) -> None:
    assert imported(path, top_only=True) & VENDORS == set()


@pytest.mark.parametrize("path", HOST, ids=lambda path: path.stem)
def test_the_host_imports_no_vendor(path: Path) -> None:
    assert imported(path, top_only=False) & VENDORS == set()


@pytest.mark.parametrize("folder", ["docker", "shared", "targets", "tests"])
def test_no_folder_hides_a_package(folder: str) -> None:
    assert not (ROOT / folder / "__init__.py").exists()


def test_the_readme_begins_with_the_two_commands() -> None:
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if line.strip()]
    assert lines[2].startswith("make demo")
    assert lines[3].startswith("make test")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docker").glob("*/requirements.lock")), ids=lambda path: path.parent.name
)
def test_a_lock_names_no_place(path: Path) -> None:
    assert "://" not in "".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
    assert "--hash=sha256:" in path.read_text()


def test_the_docs_know_every_target_and_recipe() -> None:
    docs = (ROOT / "docs" / "targets.md").read_text()
    readme = (ROOT / "README.md").read_text()
    recipes = [path.stem for path in (ROOT / "targets").glob("*/recipes/*.json")]
    targets = [path.name for path in (ROOT / "targets").iterdir()]
    assert [name for name in (*recipes, *targets) if f"`{name}`" not in docs] == []
    assert [name for name in targets if f"| `{name}` |" not in readme] == []
