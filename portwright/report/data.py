"""The runs of a host volume, read as they stand, with their raw samples and what came before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from portwright import past
from portwright.errors import UsageError
from portwright.labels import RanOn, ran_on
from portwright.naming import slug, suggestion, user_path
from portwright.results import RunResult
from portwright.view import MANIFEST, MEASUREMENTS, RESULT

READS = 3
"""A run may be replaced while it is read: then it is read again."""


@dataclass(frozen=True)
class Timed:
    """Raw latencies of one pass, milliseconds, in the order they were taken."""

    candidate: tuple[float, ...] = ()
    baseline: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Run:
    """One recipe's last run on one model."""

    model: str
    """The run's folder under `runs/`."""
    folder: Path
    result: RunResult
    manifest: Mapping[str, Any]
    passes: Mapping[str, Timed] = field(default_factory=dict)
    """`one_thread` and `all_threads`, as far as they were measured."""
    cosines: tuple[float, ...] = ()
    """Similarity of each evaluated text, as far as it is a number."""
    edited: bool = False
    """The result is not the one that its manifest vouches for."""
    series: past.Series

    @property
    def ran_on(self) -> RanOn:
        return ran_on(self.result)


@dataclass(frozen=True)
class Unreadable:
    """A run folder that can't be shown, and why."""

    folder: str
    why: str


@dataclass(frozen=True)
class Runs:
    """Everything that a report tells of."""

    runs: tuple[Run, ...]
    unreadable: tuple[Unreadable, ...]

    def by_model(self) -> dict[str, list[Run]]:
        """Runs by their model's folder, in the order of the runs."""
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            found.setdefault(run.model, []).append(run)
        return found


def load_runs(root: Path, model: str | None = None) -> Runs:
    """The runs under a host volume; UsageError where there is none, or none of that model."""
    folders = sorted(path.parent for path in (root / "runs").glob(f"[!.]*/[!.]*/{RESULT}"))
    if not folders:
        raise UsageError("there is nothing to report yet", why=f"{root} holds no run", hint="invoke run --target=…")
    runs: list[Run] = []
    unreadable: list[Unreadable] = []
    for folder in folders:
        read = read_run(root, folder)
        if isinstance(read, Run):
            runs.append(read)
        else:
            unreadable.append(read)
    if model is None:
        return Runs(tuple(runs), tuple(unreadable))
    wanted = _names(model)
    chosen = tuple(run for run in runs if wanted & {run.model, run.result.model.source})
    damaged = tuple(item for item in unreadable if item.folder.split("/")[0] in wanted)
    if not chosen and not damaged:
        known = {run.model for run in runs} | {item.folder.split("/")[0] for item in unreadable}
        raise UsageError(f"no run of model {model!r}", hint=suggestion(model, known))
    return Runs(chosen, damaged)


def read_run(root: Path, folder: Path) -> Run | Unreadable:
    """A run folder of a host volume."""
    name = f"{folder.parent.name}/{folder.name}"
    try:
        result_text, manifest, samples = _read(folder)
        result = RunResult.model_validate_json(result_text)
    except OSError as error:
        return Unreadable(name, error.strerror or str(error))
    except UnicodeDecodeError:
        return Unreadable(name, "it is not UTF-8 text")
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in fault["loc"])
        return Unreadable(name, f"{RESULT} is damaged or of another version: {place or 'the file'}: {fault['msg']}")
    return Run(
        model=folder.parent.name,
        folder=folder,
        result=result,
        manifest=manifest,
        passes={name: timed(samples, name) for name in ("one_thread", "all_threads")},
        cosines=cosines(samples),
        edited=not _vouched(result_text, manifest),
        series=past.series_of(root, folder.parent.name, folder.name),
    )


def timed(samples: list[dict[str, Any]], name: str) -> Timed:
    """The latencies of one pass of the benchmark."""
    lines = [line for line in samples if line.get("stage") == "benchmark" and line.get("pass") == name]
    return Timed(
        tuple(line["candidate_ms"] for line in lines if _is_number(line.get("candidate_ms"))),
        tuple(line["baseline_ms"] for line in lines if _is_number(line.get("baseline_ms"))),
    )


def cosines(samples: list[dict[str, Any]]) -> tuple[float, ...]:
    """Similarity text by text, as `evaluate` found it; a line of its own history names no stage."""
    lines = [line for line in samples if line.get("stage", "evaluate") == "evaluate" and "cosine" in line]
    return tuple(line["cosine"] for line in lines if _is_number(line["cosine"]))


def _read(folder: Path) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
    """Result, manifest and samples of the same run."""
    for _ in range(READS):
        text = (folder / RESULT).read_text(encoding="utf-8")
        manifest = _object(folder / MANIFEST)
        samples = _samples(folder / MEASUREMENTS)
        if _vouched(text, manifest):
            break
    return text, manifest, samples


def _vouched(text: str, manifest: Mapping[str, Any]) -> bool:
    """Whether the manifest names this very result; a folder without one vouches for nothing, and breaks no promise."""
    files = manifest.get("files")
    entry = files.get(RESULT) if isinstance(files, dict) else None
    return not isinstance(entry, dict) or entry.get("sha256") == hashlib.sha256(text.encode()).hexdigest()


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _samples(path: Path) -> list[dict[str, Any]]:
    """The whole lines of `measurements.jsonl`."""
    found = []
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    for line in text.split("\n"):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # noqa: PLR0124 - not NaN


def _names(model: str) -> set[str]:
    """What `--model` may mean: as it is recorded, as its folder is called, or a path as it was typed."""
    return {model, slug(model), str(user_path(model).resolve())}
