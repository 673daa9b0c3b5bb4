"""The images that are there: no larger than they may be, on one base, and with all that a stage imports."""

from __future__ import annotations

import ast
import json

import pytest

from benchmarks.images import APART, Size, sizes
from portwright.engines.docker import DockerEngine
from portwright.engines.docker_image import find_image
from portwright.project import this_project
from portwright.toolchain import load_toolchains

pytestmark = pytest.mark.docker
PROJECT = this_project()
TOOLCHAINS = load_toolchains(PROJECT.docker)
WANTS = {"onnxruntime.tools.symbolic_shape_infer": "sympy"}
"""Modules that their wheel brings and that import a package it doesn't ask for: only some locks have it."""
IMPORT = """
import importlib, importlib.util, json, sys, warnings
warnings.simplefilter("ignore")
done, failed = [], {}
for name in json.loads(sys.argv[1]):
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        continue  # another toolchain's
    try:
        importlib.import_module(name)
        done.append(name)
    except Exception as error:
        failed[name] = f"{type(error).__name__}: {error}"
print("found " + json.dumps([done, failed]))
"""


@pytest.fixture
def built(engine: DockerEngine) -> list[Size]:
    """Of ort, and of those that an earlier test or run built; building all of them here would take many minutes."""
    found = sizes(engine._client, TOOLCHAINS)
    assert "ort" in {size.toolchain for size in found}
    return found


def test_no_image_is_larger_than_it_may_be(built: list[Size]) -> None:
    assert [size.figure().row() for size in built if size.figure().held is False] == []


def test_all_but_those_apart_stand_on_one_layer(built: list[Size]) -> None:
    assert len({size.base for size in built if size.toolchain not in APART}) <= 1


def vendor_modules() -> list[str]:
    """Every module that the stage library imports and that is neither its own nor the standard library's."""
    names = set()
    for path in (PROJECT.shared / "stagelib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module)
    return sorted(names - {name for name in names if name.partition(".")[0] == "stagelib"})


def test_all_that_a_stage_imports_is_left(engine: DockerEngine, built: list[Size]) -> None:
    modules = vendor_modules()
    assert {"numpy", "onnx", "optimum.exporters.onnx.convert", "onnxruntime.quantization"} <= set(modules)
    for size in built:
        image = find_image(engine._client, TOOLCHAINS[size.toolchain])
        assert image is not None
        wanted = [name for name in modules if TOOLCHAINS[size.toolchain].can_run((WANTS.get(name, "numpy"),))]
        output = engine._client.containers.run(
            image,
            ["python", "-c", IMPORT, json.dumps(wanted)],
            remove=True,
            network_mode="none",
            read_only=True,
            tmpfs={"/tmp": "rw"},  # noqa: S108 - the container's own
        )
        [said] = [line for line in output.decode().splitlines() if line.startswith("found ")]
        done, failed = json.loads(said.removeprefix("found "))
        assert (size.toolchain, failed) == (size.toolchain, {})
        assert "numpy" in done
