"""What commands print: tables and last lines. Pure: values in, text out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from portwright import readback
from portwright.calls import RecipePlan, unique
from portwright.errors import UsageError
from portwright.executor import Shelf
from portwright.gates import failed
from portwright.naming import suggestion
from portwright.project import Project
from portwright.results import RunResult
from portwright.run import Report, RunSummary
from portwright.target import Catalog

WORST = 3
"""Layers named in the terminal; the result holds more."""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns under headings, as wide as their widest cell."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def run_text(project: Project, summary: RunSummary) -> str:
    """The end of a run: reasons of failures first, then the table, then where everything lies."""
    parts = [_failure(report) for report in summary.reports if report.result and report.result.status == "failed"]
    finished = [report for report in summary.reports if report.result]
    if finished:
        header = ("target", "recipe", "status", "ran on", "p50 ms", "of fp32", "similarity", "min", "MB", "measured")
        parts.append(table(header, [_row(report) for report in finished]))
    parts += _notes(summary)
    parts += [f"{report.wanted.recipe.name}: {project.show(report.view)}" for report in finished if report.view]
    if finished and all(report.nothing_ran for report in summary.reports):
        parts.append(f"Nothing to do: every stage and measurement is there. Engine {summary.engine}.")
    return "\n".join(parts)


def _row(report: Report) -> tuple[str, ...]:
    result = report.result
    assert result is not None
    return (
        result.target,
        result.recipe,
        result.status,
        _ran_on(result),
        f"{result.latency_ms.p50:.2f}" if result.latency_ms else "-",
        f"{result.latency_ratio:.3f}" if result.latency_ratio is not None else "-",
        _cosine(result.similarity.mean),
        _cosine(result.similarity.min),
        f"{result.size_bytes / 1e6:.1f}",
        result.measured.replace("+00:00", "Z"),
    )


def _ran_on(result: RunResult) -> str:
    """`device`, or what stood in for it: never the one for the other."""
    standing_in = any(gate.name == "placement" and gate.passed is None for gate in result.gates)
    return f"{result.executed_on} (stand-in)" if standing_in else result.executed_on


def _cosine(value: float | None) -> str:
    return "NaN" if value is None else f"{value:.4f}"


def _failure(report: Report) -> str:
    result = report.result
    assert result is not None
    reasons = "; ".join(f"gate {gate.name}: {gate.reason}" for gate in failed(result.gates))
    return "\n".join([f"FAILED {result.recipe}: {reasons}", *_worst_layers(result)])


def _worst_layers(result: RunResult) -> Iterator[str]:
    """Where a failed model loses most, and what to try."""
    if not result.layer_errors:
        return
    listed = ", ".join(f"{one.tensor} ({one.op}, adds {one.added:.1%})" for one in result.layer_errors[:WORST])
    yield f"  loses most at: {listed}"
    yield "  try: weights per channel, more bits for activations, more calibration texts, or those layers left in float"


def rejected(summary: RunSummary) -> list[str]:
    """Recipes whose gates failed, each with the gates' names."""
    results = [report.result for report in summary.reports if report.result]
    return [
        f"{result.recipe} ({', '.join(gate.name for gate in failed(result.gates))})"
        for result in results
        if failed(result.gates)
    ]


def _notes(summary: RunSummary) -> list[str]:
    notes = [
        "p50 ms: one inference on one pinned CPU thread; of fp32: its ratio to ONNX Runtime fp32, run in turn with it.",
    ]
    results = [report.result for report in summary.reports if report.result]
    for result in results:
        if result.model.synthetic:
            notes.append(f"{result.recipe}: random weights: similarity says nothing about a trained model.")
        if result.data.note:
            notes.append(f"{result.recipe}: {result.data.note}")
        if result.verdict and result.verdict != "valid":
            notes.append(f"{result.recipe}: the measurement is {result.verdict}: {result.verdict_reason}")
        notes += [f"{result.recipe}: {line}" for line in _unlike_the_device(result)]
    return notes if results else []


def _unlike_the_device(result: RunResult) -> Iterator[str]:
    """What a reader must know before taking a figure for the device's."""
    if not result.executed.deployable:
        yield (
            f"what ships was compiled, not executed; executed was the model of stage {result.executed.stage}, "
            f"on {result.executed_on}."
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


def plan_text(plans: Sequence[RecipePlan], shelf: Shelf) -> str:
    """The calls of all plans, each once, with what is there already."""
    recipes = {
        call.key: [p.recipe.name for p in plans if call.key in {c.key for c in p.calls}]
        for p in plans
        for call in p.calls
    }
    rows = []
    for call in unique(call for plan in plans for call in plan.calls):
        there = "there" if shelf.find(call) else "to run"
        rows.append((call.stage, call.toolchain.name, call.key[:12], there, str(len(recipes[call.key]))))
    engine = plans[0].engine if plans else "-"
    return (
        table(("stage", "toolchain", "key", "state", "recipes"), rows)
        + f"\nKeys are those of the {engine} engine; --engine chooses."
    )


def list_text(catalog: Catalog) -> str:
    """Targets with their recipes, toolchains, and stages."""
    for target in catalog.targets.values():
        for recipe in target.recipe_paths:
            catalog.recipes_for([target], recipe)  # what can't be run is not listed, but named
    rows = [
        (
            target.name,
            target.file.title,
            recipe + (" (default)" if recipe == target.file.default_recipe else ""),
            ", ".join(target.file.toolchains),
        )
        for target in catalog.targets.values()
        for recipe in target.recipe_paths
    ]
    stages = [(item.name, item.stage.summary) for item in catalog.stage_library.recipe_stages()]
    return "\n\n".join(
        [table(("target", "hardware", "recipe", "toolchains"), rows), table(("stage", "what it does"), stages)]
    )
