"""Which engine a command uses: the one asked for, else Docker if an engine answers, else venv."""

from __future__ import annotations

from dataclasses import dataclass

from portwright.engines.base import Engine
from portwright.engines.kinds import EngineKind
from portwright.project import Project


@dataclass(frozen=True)
class Choice:
    """A kind of engine, and why it was chosen."""

    kind: EngineKind
    why: str


def choose(asked: EngineKind | None) -> Choice:
    """Choose an engine; asks Docker only if nothing was asked for."""
    if asked is not None:
        return Choice(asked, f"--engine={asked}")
    from portwright.engines.docker import docker_answers

    answers, why = docker_answers()
    return Choice("docker", why) if answers else Choice("venv", f"no Docker engine answers: {why}")


def open_engine(kind: EngineKind, project: Project) -> Engine:
    """An engine, ready to prepare toolchains; EngineError where it is down."""
    from portwright.packages import read_settings

    if kind == "docker":
        from portwright.engines.docker import DockerEngine

        return DockerEngine(project.shared, project.artifacts / "docker", read_settings)
    from portwright.engines.venv import VenvEngine

    return VenvEngine(project.shared, project.artifacts / "venvs", read_settings())
