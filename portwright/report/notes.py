"""What a reader must know before any figure: failures and their reasons, doubts, what published figures are worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from portwright.labels import timing_doubts
from portwright.published import PublishedFigures
from portwright.readback import reasons
from portwright.report.data import Run, Runs

Kind = Literal["failed", "unreadable", "doubtful"]
ORDER: tuple[Kind, ...] = ("failed", "unreadable", "doubtful")


@dataclass(frozen=True, kw_only=True)
class Note:
    """One run that needs a look, and why."""

    kind: Kind
    title: str
    reasons: tuple[str, ...]
    run: Run | None = None


def notes(runs: Runs) -> list[Note]:
    """Failures first, then what can't be read, then what can be doubted."""
    found = [note for run in runs.runs for note in _of_run(run)]
    found += [Note(kind="unreadable", title=item.folder, reasons=(item.why,)) for item in runs.unreadable]
    return sorted(found, key=lambda note: ORDER.index(note.kind))


def _of_run(run: Run) -> Iterator[Note]:
    result = run.result
    title = f"{result.recipe} on {run.model}"
    if result.status == "failed":
        yield Note(kind="failed", title=title, reasons=tuple(reasons(result)), run=run)
    if doubts := tuple(_doubts(run)):
        yield Note(kind="doubtful", title=title, reasons=doubts, run=run)


def _doubts(run: Run) -> Iterator[str]:
    result = run.result
    yield from timing_doubts(result)
    if run.edited:
        yield "result.json is not the one its manifest vouches for: it was changed after the run"
    if not result.data.disjoint:
        yield f"calibration and evaluation share texts: {result.data.note}"


def published_oddities(figures: PublishedFigures) -> list[str]:
    """What can't be right about figures as they are printed."""
    found = []
    mean, least, most = figures.latency_mean_ms, figures.latency_min_ms, figures.latency_max_ms
    if mean is not None and least is not None and least > mean:
        found.append(f"the printed minimum latency, {least:g} ms, exceeds the printed mean, {mean:g} ms")
    if mean is not None and most is not None and most < mean:
        found.append(f"the printed maximum latency, {most:g} ms, is below the printed mean, {mean:g} ms")
    return found


def tally(runs: Sequence[Run]) -> dict[str, int]:
    """Runs by status, gates that nothing here can tell, and runs by what executed."""
    gates = [gate for run in runs for gate in run.result.gates]
    kinds = [run.ran_on.kind for run in runs]
    return {
        "passed": sum(run.result.status == "passed" for run in runs),
        "failed": sum(run.result.status == "failed" for run in runs),
        "untold": sum(gate.passed is None for gate in gates),
        "gates": len(gates),
        "device": kinds.count("device"),
        "cpu": kinds.count("cpu"),
        "stand_in": kinds.count("stand-in") + kinds.count("emulator"),
    }
