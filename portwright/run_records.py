"""What ties measurements to a recipe across its keys: each run, as it stood when it ended, and the commit it came from.

A measurement is filed under the key of its call, and a key changes with code, recipe or toolchain. So each run with
something new to say adds a line to `history/<model>/<recipe>.jsonl`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from portwright.checked import ModelT, StrictModel
from portwright.disk import storage_error
from portwright.results import RunResult

HISTORY = "history"
CHANGED = "+"
"""Stands after the commit of a checkout that differed from it in what runs."""
WHAT_RUNS = ("portwright", "shared", "targets", "docker", "device", "tasks.py")
"""Files here that git doesn't know count too: a stage or a recipe is found by lying in its folder."""


class RunRecord(StrictModel):
    """One run as it stood when it ended."""

    version: Literal[1] = 1
    commit: str = ""
    result: RunResult


def record(root: Path, model: str, result: RunResult, commit: str) -> None:
    """Add a run to its recipe's record, unless the last line says the same; StoreError where the disk refuses.

    `root` is the host volume, `model` the run's folder under `runs/`, `commit` what `commit_of` says.
    """
    path = root / HISTORY / model / f"{result.recipe}.jsonl"
    known, line = records(path), RunRecord(commit=commit, result=result)
    if known and _said(known[-1]) == _said(line):
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            # A line cut short by a crash is ended, so that ours is whole.
            if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n":
                file.write(b"\n")
            file.write(f"{line.model_dump_json()}\n".encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise storage_error(path, error) from error


@cache
def commit_of(checkout: Path) -> str:
    """The checkout's commit, with a plus sign where what runs differs from it; empty where git knows nothing.

    Asked once a process, at a run's beginning: the run belongs to what was there then.
    """
    head = _git(checkout, "rev-parse", "HEAD")
    if not head:
        return ""
    return head + (
        CHANGED if _git(checkout, "status", "--porcelain", "--untracked-files=all", "--", *WHAT_RUNS) else ""
    )


def resolve(checkout: Path, text: str) -> str:
    """The full name of a commit that git knows by `text`, or nothing."""
    return _git(checkout, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{text}^{{commit}}")


def records(path: Path) -> list[RunRecord]:
    return list(lines(path, RunRecord))


def lines(path: Path, model: type[ModelT]) -> Iterator[ModelT]:
    """The whole lines of a file; one cut short by a crash, or of another version, is passed over."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for line in text.split("\n"):
        try:
            yield model.model_validate_json(line)
        except ValidationError:
            continue


def _said(line: RunRecord) -> tuple[Any, ...]:
    keys = tuple(stage.key for stage in line.result.stages)
    return (line.commit, line.result.measured, line.result.status, line.result.recipe_digest, keys)


def _git(checkout: Path, *arguments: str) -> str:
    """What git prints, or nothing where it fails or isn't there."""
    command = ["git", "-C", str(checkout), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
