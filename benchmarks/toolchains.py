"""The toolchains' interpreters, for suites that run in one: its virtual environment, made where it isn't there yet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.processes import ROOT, Cost, succeeded, timed
from portwright.engines.base import Event
from portwright.engines.venv import VenvEngine
from portwright.packages import read_settings
from portwright.project import this_project
from portwright.toolchain import load_toolchains

VENVS = this_project().artifacts / "venvs"


def python_of(name: str) -> Path:
    """The interpreter of a toolchain; EngineError where its environment can't be made."""
    project = this_project()
    toolchain = load_toolchains(project.docker)[name]
    engine = VenvEngine(project.shared, VENVS, read_settings())
    engine.prepare(toolchain, _ignore)
    return engine.python(toolchain)


def in_toolchain(name: str, module: str, arguments: Sequence[str | Path]) -> Cost:
    """Run a module of `benchmarks` by a toolchain's interpreter; RuntimeError with its last lines if it fails."""
    command = [str(python_of(name)), "-m", module, *map(str, arguments)]
    environment = {"PYTHONPATH": os.pathsep.join([str(ROOT / "shared"), str(ROOT)])}
    return succeeded(timed(command, environment), f"{module} in toolchain {name}")


def _ignore(_: Event) -> None:
    """Events are for a board."""
