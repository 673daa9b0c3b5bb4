"""Which engine a command uses: the one asked for, else Docker if an engine answers, else venv."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from portwright.engines.base import Engine, EngineKind
from portwright.errors import UsageError
from portwright.naming import suggestion
from portwright.project import Project

ENGINE_KINDS: tuple[EngineKind, ...] = get_args(EngineKind)


@dataclass(frozen=True)
class Choice:
    """A kind of engine, and why it was chosen."""

    kind: EngineKind
    why: str


def parse_kind(text: str | None) -> EngineKind | None:
    """`--engine` as given; UsageError for an unknown one."""
    if text is None:
        return None
    for kind in ENGINE_KINDS:
        if text == kind:
            return kind
    raise UsageError(f"unknown engine {text!r}", hint=suggestion(text, ENGINE_KINDS))


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
