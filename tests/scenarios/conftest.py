"""A hub on loopback for the scenarios that need one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from support.hub_repos import make_repos
from support.stub_hub import Repo, StubHub


@pytest.fixture(scope="session")
def python(toolchain_python: Callable[[str], Path]) -> Path:
    return toolchain_python("exporter")


@pytest.fixture(scope="session")
def repos(python: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Repo, Repo]:
    return make_repos(python, tmp_path_factory.mktemp("repos"))


@pytest.fixture
def hub(repos: tuple[Repo, Repo]) -> Iterator[StubHub]:
    with StubHub([replace(repo) for repo in repos]) as running:
        yield running


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    """The engine of a parametrized test; Docker must answer."""
    kind: str = request.param
    if kind == "docker":
        request.getfixturevalue("docker_engine")
    return kind
