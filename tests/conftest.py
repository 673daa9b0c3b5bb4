"""What scenario and Docker tests share: prepared toolchains, a real small model, a host volume of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portwright.board import Board
from portwright.engines.venv import VenvEngine
from portwright.packages import read_settings
from portwright.project import this_project
from portwright.toolchain import load_toolchains
from support.commands import Portwright
from support.seeds import Seeds
from support.sharing import ENGINE, scheduler, scope

# A shell's background jobs ignore SIGINT, and so would every command that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

PROJECT = this_project()
MINILM = PROJECT.root / ".demo" / "minilm"
REQUIRE_DOCKER = "PORTWRIGHT_REQUIRE_DOCKER"
WORKER = "PYTEST_XDIST_WORKER"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `-n`: files, and one worker for the Docker engine."""
    return scheduler(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Workers know a test by its name alone: one that uses the Docker engine must be known by it."""
    lost = [item.nodeid for item in items if item.get_closest_marker("docker") and scope(item.nodeid) != ENGINE]
    assert not lost, f"in tests/docker/, or with a last parameter 'docker', please: {lost}"


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the whole test session: the workers of pytest-xdist share it."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if WORKER in os.environ else own) / "session"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def venvs(session_folder: Path) -> Path:
    """Virtual environments that all scenarios share: making them is tested once, not in each."""
    return session_folder / "venvs"


@pytest.fixture(scope="session")
def seeds(session_folder: Path, venvs: Path, texts: Path) -> Seeds:
    """Exports for the scenarios whose point is not the export."""
    return Seeds(session_folder / "seeds", venvs, texts)


@pytest.fixture(scope="session")
def toolchain_python(venvs: Path) -> Callable[[str], Path]:
    """The interpreter of a toolchain's virtual environment, made if it isn't there."""
    toolchains = load_toolchains(PROJECT.docker)
    engine = VenvEngine(PROJECT.shared, venvs, read_settings())

    def python(name: str) -> Path:
        engine.prepare(toolchains[name], lambda _: None)
        return engine.python(toolchains[name])

    return python


@pytest.fixture(scope="session")
def minilm() -> Path:
    """A small real model (all-MiniLM-L6-v2), which `make test` puts there."""
    assert (MINILM / "config.json").is_file(), f"{MINILM} is missing: run the tests through `make test`"
    return MINILM


@pytest.fixture(scope="session")
def texts() -> Path:
    return PROJECT.root / "examples" / "texts.jsonl"


@pytest.fixture
def portwright(tmp_path: Path, venvs: Path) -> Portwright:
    """The commands, on an empty host volume that shares the session's virtual environments."""
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    venvs.mkdir(parents=True, exist_ok=True)
    (artifacts / "venvs").symlink_to(venvs)
    return Portwright(artifacts)


@pytest.fixture
def docker_engine() -> None:
    """A Docker engine that answers; without one the test is skipped, or fails where one is required."""
    from portwright.engines.docker import docker_answers

    answers, why = docker_answers()
    if answers:
        return
    if os.environ.get(REQUIRE_DOCKER):
        pytest.fail(f"{REQUIRE_DOCKER} is set, and no Docker engine answers: {why}")
    pytest.skip(f"no Docker engine answers: {why}")


@pytest.fixture
def board() -> Board:
    return Board()
