"""What commands print: tables and last lines. Pure: values in, text out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from portwright import readback
from portwright.errors import UsageError
from portwright.gates import failed, too_few
from portwright.labels import ran_on, timing_doubts
from portwright.naming import suggestion
from portwright.project import Project
from portwright.reports import Report, RunSummary
from portwright.results import GateRecord, RunResult
from portwright.store import Artifact
from portwright.tables import table

COMPUTES_WORSE = "weights per channel, more bits for activations, more calibration texts, or those layers left in float"
MORE_PAIRS = "more pairs (accuracy.samples, and data that has them), or a wider margin (gates.accuracy.max_drop)"
REMEDIES = {
    "similarity": COMPUTES_WORSE,
    "accuracy": COMPUTES_WORSE,
    "latency_ratio": "invoke bench, on a quiet machine if this was unstable; fewer layers left in float; and see "
    "whether this processor multiplies integers fast (environment.isa_flags in result.json)",
    "size": "fewer bits for weights, fewer variants, or fewer layers left in float",
}
"""What to try when a gate fails, by the gate's name up to its point."""
HEADER = ("target", "recipe", "status", "ran on", "p50 ms", "of fp32", "similarity", "min", "drop", "MB", "measured")
MINUTES = len("2026-11-24T18:22")


def run_text(project: Project, summary: RunSummary) -> str:
    """The end of a run: reasons of failures first, then the table, then where everything lies."""
    finished = [report for report in summary.reports if report.result]
    parts = [line for report in finished for line in _failure(report)]
    if finished:
        parts.append(table(HEADER, [_row(report) for report in finished]))
    parts += _notes(summary)
    parts += [f"{report.wanted.recipe.name}: {project.show(report.view)}" for report in finished if report.view]
    made = [(report.wanted.recipe.name, report.made) for report in summary.reports if report.made]
    parts += [
        f"{name}: made, {_megabytes(artifact)}, not judged: {project.show(artifact.files)}" for name, artifact in made
    ]
    if (finished or made) and all(report.nothing_ran for report in summary.reports):
        parts.append(f"Nothing to do: every stage and measurement is there. Engine {summary.engine}.")
    return "\n".join(parts)


def _row(report: Report) -> tuple[str, ...]:
    result = report.result
    assert result is not None
    return (
        result.target,
        result.recipe,
        result.status,
        ran_on(result).text,
        f"{result.latency_ms.p50:.2f}" if result.latency_ms else "-",
        f"{result.latency_ratio:.3f}" if result.latency_ratio is not None else "-",
        _cosine(result.similarity.mean),
        _cosine(result.similarity.min),
        readback.drop(result),
        f"{result.size_bytes / 1e6:.1f}",
        f"{result.measured[:MINUTES]}Z",
    )


def _megabytes(artifact: Artifact) -> str:
    return f"{sum(entry.size for entry in artifact.manifest.files.values()) / 1e6:.1f} MB"


def _cosine(value: float | None) -> str:
    return "NaN" if value is None else f"{value:.4f}"


def _failure(report: Report) -> list[str]:
    """A line a reason, and what to try; none for a run that passed."""
    result = report.result
    assert result is not None
    lines = [f"FAILED {result.recipe}: {line}" for line in readback.reasons(result)]
    tries = dict.fromkeys(f"  try: {remedy}" for gate in failed(result.gates) if (remedy := _remedy(gate)))
    return [*lines, *tries] if result.status == "failed" else []


def _remedy(gate: GateRecord) -> str | None:
    name = gate.name.split(".")[0]
    return MORE_PAIRS if name == "accuracy" and too_few(gate) else REMEDIES.get(name)


def rejected(summary: RunSummary) -> list[str]:
    """Recipes whose gates failed, each with the gates' names."""
    results = [report.result for report in summary.reports if report.result]
    return [
        f"{result.recipe} ({', '.join(gate.name for gate in failed(result.gates))})"
        for result in results
        if failed(result.gates)
    ]


def _notes(summary: RunSummary) -> list[str]:
    results = [report.result for report in summary.reports if report.result]
    notes = list(_legend(results))
    for result in results:
        if result.model.synthetic:
            notes.append(f"{result.recipe}: random weights: similarity says nothing about a trained model.")
        if result.data.note:
            notes.append(f"{result.recipe}: {result.data.note}")
        notes += [f"{result.recipe}: {line}" for line in timing_doubts(result)]
        notes += [f"{result.recipe}: {line}" for line in _unlike_the_device(result)]
    return notes


def _legend(results: Sequence[RunResult]) -> Iterator[str]:
    """What the table's columns mean, as far as anything stands in them."""
    timed = [result for result in results if result.latency_ms]
    if timed:
        on_cpu = [result.executed_on == "cpu" for result in timed]
        where = " on one pinned CPU thread" if all(on_cpu) else ", on a CPU by one pinned thread" if any(on_cpu) else ""
        yield f"p50 ms: one inference{where}; of fp32: its ratio to ONNX Runtime fp32, run in turn with it."
    if any(result.accuracy for result in results):
        yield "drop: accuracy lost against fp32, in points, of a classifier on the embeddings."


def _unlike_the_device(result: RunResult) -> Iterator[str]:
    """What a reader must know before taking a figure for the device's."""
    if not result.executed.deployable:
        yield (
            f"what ships was not executed; executed was the {result.executed.format} model of stage "
            f"{result.executed.stage}, on {result.executed_on}."
        )
        for one in result.checked:
            yield f"{one.stage} checked what ships: {one.how}."
    if result.half_range and result.half_range.largest:
        worst = result.half_range.largest[0]
        size = "not finite" if worst.largest is None else f"{worst.largest:.4g}"
        yield (
            f"fp16 holds 65504: the largest of {result.half_range.tensors} tensors is {size} ({worst.tensor}); "
            f"{result.half_range.above} don't fit and stay in fp32."
        )
    if result.emulation:
        found = result.emulation.similarity
        yield (
            f"emulator, not a device: {result.emulation.variant}, {_cosine(found.mean)} (min {_cosine(found.min)}) "
            f"over {found.samples} texts against the model it was compiled from."
        )
    for item in result.not_built:
        hint = f" {item.hint}" if item.hint else ""
        yield f"not built: {item.what}: {item.why}.{hint}"


def results_text(results: Sequence[RunResult], format_: str) -> str:
    """Results that were made elsewhere, as a table for people or as Markdown; UsageError for another format."""
    if format_ == "markdown":
        return readback.markdown(results)
    if format_ != "table":
        raise UsageError(f"--format={format_} is not known", hint=suggestion(format_, ("table", "markdown")))
    return table(readback.HEADER, readback.rows(results))
