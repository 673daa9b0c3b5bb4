"""Driving Portwright as a user does: the command, its exit code and what it left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from portwright.project import ARTIFACTS_VARIABLE, this_project

ROOT = this_project().root
ENGINES = [
    pytest.param("venv", marks=pytest.mark.scenario),
    pytest.param("docker", marks=[pytest.mark.scenario, pytest.mark.docker]),
]
TIMEOUT_S = 900


@dataclass(frozen=True)
class Finished:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


@dataclass(frozen=True)
class Portwright:
    """The commands of this checkout, on a host volume of their own."""

    artifacts: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    root: Path = ROOT
    """The checkout whose commands they are."""

    def run(self, *arguments: str, **extra: str) -> Finished:
        """Run `invoke ARGUMENTS` to its end."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.root,
            env=self.env(**extra),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str, **extra: str) -> subprocess.Popen[str]:
        """Start `invoke ARGUMENTS`; the caller ends it."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.root,
            env=self.env(**extra),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "invoke", *arguments]

    def env(self, **extra: str) -> dict[str, str]:
        return {**os.environ, ARTIFACTS_VARIABLE: str(self.artifacts), **self.environment, **extra}

    def view(self, model: str, recipe: str) -> Path:
        return self.artifacts / "runs" / model / recipe

    def result(self, model: str, recipe: str) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.view(model, recipe) / "result.json").read_text())
        return value


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())
