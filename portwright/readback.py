"""Results read back from where they were made: a device's `result.json`, or a folder of them from a CI run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from portwright.checked import parse_json_object, read_text, validate
from portwright.errors import UsageError
from portwright.gates import failed
from portwright.labels import ran_on
from portwright.results import RunResult
from portwright.view import RESULT

WHAT = "result"


def read_result(path: Path) -> RunResult:
    """A `result.json`, whoever wrote it; RecipeError names the file and what is wrong in it."""
    return validate(RunResult, parse_json_object(read_text(path, WHAT), path, WHAT), path, WHAT)


def read_results(path: Path) -> list[RunResult]:
    """One result, or every one below a folder, sorted; UsageError where there is none."""
    if not path.exists():
        raise UsageError(f"no file or folder {path}", hint="a result.json, or a folder with some below it")
    paths = sorted(path.rglob(RESULT)) if path.is_dir() else [path]
    if not paths:
        raise UsageError(f"no {RESULT} below {path}")
    return sorted((read_result(item) for item in paths), key=lambda result: (result.target, result.recipe))


HEADER = ("target", "recipe", "status", "ran on", "device", "p50 ms", "of fp32", "similarity", "drop", "verdict")
WORST = 3
"""Layers named where there is a line for it; the result holds more."""


def rows(results: Sequence[RunResult]) -> list[tuple[str, ...]]:
    """Cells under `HEADER`, one row a result."""
    return [
        (
            result.target,
            result.recipe,
            result.status,
            ran_on(result).text,
            result.device,
            f"{result.latency_ms.p50:.2f}" if result.latency_ms else "-",
            f"{result.latency_ratio:.3f}" if result.latency_ratio is not None else "-",
            _cosine(result),
            drop(result),
            result.verdict or "-",
        )
        for result in results
    ]


def drop(result: RunResult) -> str:
    """Accuracy lost against fp32, in points; a dash where it was not judged."""
    return f"{100 * result.accuracy.drop:+.1f}" if result.accuracy else "-"


def reasons(result: RunResult) -> list[str]:
    """Why a run failed: each gate with its reason, then the layers that lose most, where they were looked for."""
    found = [f"gate {gate.name}: {gate.reason}" for gate in failed(result.gates)]
    if worst := result.layer_errors[:WORST]:
        told = ", ".join(f"{layer.tensor} ({layer.op}, adds {layer.added:.1%})" for layer in worst)
        found.append(f"it loses most in: {told}")
    return found


def markdown(results: Sequence[RunResult]) -> str:
    """For a CI run's summary: the reasons of what failed, then a table."""
    lines = [HEADER, ["---"] * len(HEADER), *rows(results)]
    table = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
    told = [f"- {result.recipe}: {line}" for result in results if failed(result.gates) for line in reasons(result)]
    return "\n".join([*([*told, ""] if told else []), table])


def _cosine(result: RunResult) -> str:
    if not result.similarity.samples:
        return "-"
    return "NaN" if result.similarity.mean is None else f"{result.similarity.mean:.4f}"
