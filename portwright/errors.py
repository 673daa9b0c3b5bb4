"""Every error a user can meet: one tree, one exit code a class.

A message says what happened and where, `why` the cause, `hint` what to do next. Invoke's own parser exits with 1.
"""

from __future__ import annotations

from pathlib import Path


class PortwrightError(Exception):
    """Base of all errors that a user meets as text; anything else is a bug and shows a traceback with --debug."""

    exit_code = 70

    def __init__(self, message: str, *, why: str = "", hint: str = "", log: Path | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.why = why
        self.hint = hint
        self.log = log

    def __str__(self) -> str:
        lines = [self.message]
        if self.why:
            lines.append(f"  why: {self.why}")
        if self.hint:
            lines.append(f"  try: {self.hint}")
        if self.log is not None:
            lines.append(f"  log: {self.log}")
        return "\n".join(lines)


class UsageError(PortwrightError):
    """Wrong options: an unknown target, engine or combination."""

    exit_code = 2


class RecipeError(PortwrightError):
    """A recipe, target or toolchain file that can't be right."""

    exit_code = 2


class ModelError(PortwrightError):
    """A model that can't be found, read or accepted."""

    exit_code = 2


class DataError(PortwrightError):
    """Data that can't be found, read or used."""

    exit_code = 2


class GateError(PortwrightError):
    """The run finished, and a gate says that its result must not ship."""

    exit_code = 3


class EngineError(PortwrightError):
    """The engine is down or refused, or an image or a virtual environment could not be built."""

    exit_code = 4


class StageFailedError(PortwrightError):
    """A stage started and did not finish."""

    exit_code = 5


class StoreError(PortwrightError):
    """The host volume can't be written: disk full, no permission, a damaged artifact."""

    exit_code = 6


class InterruptedRunError(PortwrightError):
    """The user or the system stopped the run; the same command goes on where it was."""

    exit_code = 130
