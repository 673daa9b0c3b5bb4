"""The report as a short Markdown page for a CI job's summary: failures and their reasons first, then one table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from portwright.report import figures
from portwright.report.data import Run, Runs
from portwright.report.notes import Note, notes, published_oddities, tally

HEADER = (
    "model",
    "target",
    "recipe",
    "status",
    "ran on",
    "latency over fp32",
    "p50 ms",
    "similarity (worst)",
    "accuracy drop, points",
    "MB",
    "cached",
)
TITLES = {"failed": "Failed", "unreadable": "Can't be read", "doubtful": "In doubt"}
_SPECIAL = re.compile(r"([\\`*_\[\]#|~$<>&])")
_BREAKS = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]+")


def summary(runs: Runs) -> str:
    """The page, ending with a line break."""
    found = notes(runs)
    parts = [f"## {_headline(runs)}", *(_note(note) for note in found if note.kind != "doubtful")]
    if runs.runs:
        parts.append(_table(runs.runs))
        parts.append(
            "Latency over fp32: median of pairs with ONNX Runtime fp32, run in turn, and its 95 % interval. Rows that "
            "ran on different hardware are not compared; a CPU stand-in's or an emulator's figure is not the device's."
        )
    parts += [_note(note) for note in found if note.kind == "doubtful"]
    if published := [line for run in runs.runs for line in _published(run)]:
        parts.append("\n".join(published))
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, in one line: no markup, no table cell's end."""
    return _SPECIAL.sub(r"\\\1", _BREAKS.sub(" ", text))


def _headline(runs: Runs) -> str:
    counts = tally(runs.runs)
    unreadable = f", {len(runs.unreadable)} can't be read" if runs.unreadable else ""
    return f"Portwright: {counts['passed']} passed, {counts['failed']} failed{unreadable}"


def _note(note: Note) -> str:
    lines = [f"**{TITLES[note.kind]}: {escape(note.title)}**", *(f"- {escape(reason)}" for reason in note.reasons)]
    return "\n".join([lines[0], "", *lines[1:]])


def _table(runs: Sequence[Run]) -> str:
    lines = [HEADER, ["---"] * len(HEADER), *(_row(run) for run in runs)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _row(run: Run) -> list[str]:
    result = run.result
    interval = figures.span(result.latency_ratio_interval)
    cached = sum(stage.cached for stage in result.stages)
    cells = [
        run.model,
        result.target,
        result.recipe,
        result.status,
        run.ran_on.text,
        figures.ratio(result.latency_ratio) + (f" ({interval})" if interval else ""),
        figures.milliseconds(result.latency_ms.p50 if result.latency_ms else None),
        f"{figures.cosine(result.similarity.mean)} ({figures.cosine(result.similarity.min)})",
        f"{figures.points(result.accuracy.drop)} ({figures.drop_span(result.accuracy)})"
        if result.accuracy
        else figures.NONE,
        figures.megabytes(result.size_bytes),
        f"{cached} of {len(result.stages)}",
    ]
    return [escape(cell) for cell in cells]


def _published(run: Run) -> Iterator[str]:
    """Published figures that can't be right are named here too; the others stand in the page."""
    if run.result.published:
        for oddity in published_oddities(run.result.published):
            yield f"- {escape(f'{run.result.target}, published for {run.result.published.device}: {oddity}.')}"
