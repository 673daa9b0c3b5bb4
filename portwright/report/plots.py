"""The report's plots. Each answers one question, says it in words too, and shows nothing that may not be compared."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from portwright.labels import RanOnKind
from portwright.report.data import Run, Timed
from portwright.report.svg import ACCENT, BASELINE, FAINT, GRID, INK, MUTED, OURS, PAPER, inline_svg, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from portwright.past import Series

WIDTH = 6.6
"""Inches; the page scales it."""
PANELS: dict[RanOnKind, str] = {
    "device": "on the device",
    "emulator": "in an emulator",
    "stand-in": "on a CPU, in the device's place",
    "cpu": "on the CPU they are made for",
}
MARKERS: dict[RanOnKind, str] = {"device": "o", "emulator": "X", "stand-in": "D", "cpu": "s"}
LEAST_SERIES = 2
JITTER = 0.27
HIGHEST_FLOOR = 0.9995
"""Cosine below which a panel begins at the least: differences after the fourth digit are none."""
ROOM_PER_LETTER = 0.0135
"""Share of the longest bar that a letter of a stage's name takes."""


@contextlib.contextmanager
def plotting() -> Iterator[None]:
    """Matplotlib's own defaults, whatever the user's are, with text as text and names that don't change."""
    defaults = {name: value for name, value in mpl.rcParamsDefault.items() if not name.startswith("backend")}
    ours: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "portwright",
        "font.size": 11,
        "text.color": INK,
        "axes.labelcolor": MUTED,
        "axes.edgecolor": GRID,
        "xtick.color": GRID,
        "ytick.color": GRID,
        "xtick.labelcolor": MUTED,
        "ytick.labelcolor": INK,
        "grid.color": GRID,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "ytick.left": False,
        "axes.axisbelow": True,
        "axes.unicode_minus": False,
    }
    with mpl.rc_context({**defaults, **ours}):
        yield


def latency(run: Run, name: str) -> str:
    """Every timed run of the model and of fp32, one thread and all; empty where nothing was timed."""
    rows: list[tuple[str, Sequence[float], str]] = []
    for what, timed in run.passes.items():
        rows += _rows(timed, *_named(run, what))
    if not rows:
        return ""
    figure, axes = _axes(0.65 + 0.55 * len(rows))
    for index, (_, values, colour) in enumerate(rows):
        _strip(axes, len(rows) - 1 - index, values, colour)
    axes.set_yticks(range(len(rows) - 1, -1, -1), [label for label, _, _ in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlim(left=0)
    axes.set_xlabel("ms per inference")
    axes.grid(axis="x", linewidth=0.6)
    said = "; ".join(f"{label}: median {statistics.median(values):.2f} ms" for label, values, _ in rows)
    return inline_svg(figure, name, f"Latency of {run.result.recipe} {run.ran_on.sentence}", f"{said}.")


def _named(run: Run, what: str) -> tuple[str, str]:
    """What a pass's two rows are called. On a device its one pass is the first, and fp32 has every CPU."""
    if what == "one_thread" and run.result.executed_on == "device":
        return "this model, device", "fp32, CPU"
    suffix = {"one_thread": "one thread", "all_threads": "all threads"}.get(what, what)
    return f"this model, {suffix}", f"fp32, {suffix}"


def _rows(timed: Timed, ours: str, theirs: str) -> list[tuple[str, Sequence[float], str]]:
    rows = [(ours, timed.candidate, OURS), (theirs, timed.baseline, BASELINE)]
    return [(label, values, colour) for label, values, colour in rows if values]


def _strip(axes: Axes, y: int, values: Sequence[float], colour: str) -> None:
    """One row: the runs as dots, lower ones above as they come, then median and 90th percentile."""
    heights = [y + JITTER * (((index * 0.618) % 1.0) - 0.5) * 2 for index in range(len(values))]
    axes.scatter(values, heights, s=9, color=colour, alpha=0.55, linewidths=0)
    ordered = sorted(values)
    p90 = ordered[min(len(ordered) - 1, round(0.9 * (len(ordered) - 1)))]
    axes.plot([statistics.median(values)] * 2, [y - 0.4, y + 0.4], color=INK, linewidth=1.8, solid_capstyle="butt")
    axes.plot([p90] * 2, [y - 0.22, y + 0.22], color=INK, linewidth=1.1, solid_capstyle="butt")


def speed_similarity(runs: Sequence[Run], name: str) -> str:
    """Ratio to fp32 against similarity, one panel for each kind of thing that executed; empty without a ratio."""
    told = [run for run in runs if run.result.latency_ratio is not None and run.result.similarity.mean is not None]
    kinds = [kind for kind in PANELS if any(run.ran_on.kind == kind for run in told)]
    if not kinds:
        return ""
    figure = Figure(figsize=(WIDTH, 2.8 * len(kinds)), layout=ConstrainedLayoutEngine(h_pad=0.09))
    panels = figure.subplots(len(kinds), 1, squeeze=False)[:, 0]
    for kind, axes in zip(kinds, panels, strict=True):
        _points(axes, kind, [item for item in zip(told, names(told), strict=True) if item[0].ran_on.kind == kind])
    said = "; ".join(
        f"{label}, {run.ran_on.sentence}: ratio {run.result.latency_ratio:.3f}, "
        f"similarity {run.result.similarity.mean:.4f}"
        for run, label in zip(told, names(told), strict=True)
    )
    return inline_svg(figure, name, "Speed against similarity", f"{said}.")


def _points(axes: Axes, kind: RanOnKind, runs: Sequence[tuple[Run, str]]) -> None:
    places: list[tuple[float, float, str]] = []
    for run, name in runs:
        ratio, similarity = run.result.latency_ratio or 0.0, run.result.similarity
        mean = similarity.mean or 0.0
        least = mean if similarity.min is None else similarity.min
        low, high = run.result.latency_ratio_interval or (ratio, ratio)
        axes.plot([low, high], [mean, mean], color=OURS, linewidth=1.2)
        axes.plot([ratio, ratio], [least, mean], color=OURS, linewidth=1.2)
        axes.plot([ratio], [mean], MARKERS[kind], color=OURS, markersize=6, markeredgecolor=PAPER)
        places.append((ratio, mean, name))
    axes.axvline(1.0, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
    axes.set_xlim(0, max(1.1, 1.12 * max(x for x, _, _ in places)))
    low = min(axes.get_ylim()[0], HIGHEST_FLOOR)
    axes.set_ylim(low, 1.0 + 0.2 * (1.0 - low))  # room for the topmost name
    axes.set_title(f"executed {PANELS[kind]}", loc="left", fontsize=11, fontweight="bold")
    axes.set_xlabel("latency over fp32's")
    axes.set_ylabel("cosine to fp32")
    axes.tick_params(axis="y", labelcolor=MUTED)
    axes.grid(linewidth=0.6)
    _label(axes, places)


def _label(axes: Axes, places: Sequence[tuple[float, float, str]]) -> None:
    """Names above and right of their points, where no whisker runs, pushed apart where they would lie on each other."""
    lowest, highest = axes.get_ylim()
    step = (highest - lowest) * 0.1
    last = float("inf")
    for x, y, text in sorted(places, key=lambda place: -place[1]):
        last = min(y + step / 4, last - step)
        axes.annotate(plain(text), (x, y), (x + axes.get_xlim()[1] * 0.012, last), fontsize=10.5, va="bottom")


def sizes(runs: Sequence[Run], name: str) -> str:
    """Bytes of each deployable."""
    figure, axes = _axes(0.65 + 0.36 * len(runs))
    values = [run.result.size_bytes / 1e6 for run in runs]
    places = range(len(runs) - 1, -1, -1)
    axes.barh(places, values, height=0.6, color=OURS)
    axes.set_yticks(places, [plain(name) for name in names(runs)])
    for place, value in zip(places, values, strict=True):
        axes.text(value + max(values) * 0.012, place, f"{value:.1f}", va="center", fontsize=10.5)
    axes.set_xlim(0, max(values) * 1.12 or 1)
    axes.set_xlabel("MB of everything that ships")
    said = "; ".join(f"{label}: {value:.1f} MB" for label, value in zip(names(runs), values, strict=True))
    return inline_svg(figure, name, "Size of each deployable", f"{said}.")


def stage_times(runs: Sequence[Run], name: str) -> str:
    """How long each stage took when it ran; what an earlier run had made stands faint."""
    figure, axes = _axes(0.65 + 0.46 * len(runs))
    longest = max(sum(stage.seconds for stage in run.result.stages) for run in runs) or 1.0
    for place, run in zip(range(len(runs) - 1, -1, -1), runs, strict=True):
        left = 0.0
        for stage in run.result.stages:
            colour = FAINT if stage.cached else ACCENT
            axes.barh([place], [stage.seconds], left=left, height=0.62, color=colour, edgecolor=PAPER, linewidth=0.8)
            if stage.seconds > longest * ROOM_PER_LETTER * (len(stage.name) + 2):
                centre, ink = left + stage.seconds / 2, INK if stage.cached else PAPER
                axes.text(centre, place, plain(stage.name), ha="center", va="center", fontsize=9, color=ink)
            left += stage.seconds
        axes.text(left + longest * 0.012, place, f"{left:.0f} s", va="center", fontsize=10.5)
    axes.set_yticks(range(len(runs) - 1, -1, -1), [plain(name) for name in names(runs)])
    axes.set_xlim(0, longest * 1.1)
    axes.set_xlabel("seconds")
    said = "; ".join(
        f"{label}: {sum(stage.seconds for stage in run.result.stages):.0f} s, "
        f"{sum(stage.cached for stage in run.result.stages)} of {len(run.result.stages)} stages from an earlier run"
        for run, label in zip(runs, names(runs), strict=True)
    )
    return inline_svg(figure, name, "Time of each stage", f"{said}.")


def history(series: Series, name: str) -> str:
    """The ratio to fp32 from measurement to measurement, place by place; empty with fewer than two."""
    told = [point for point in series.points if point.facts.get("latency_ratio") is not None]
    if len(told) < LEAST_SERIES:
        return ""
    figure, axes = _axes(2.4)
    for index, place in enumerate(sorted({point.place for point in told})):
        points = [point for point in told if point.place == place]
        colour, marker = (OURS, BASELINE, ACCENT, MUTED)[index % 4], "osD^"[index % 4]
        numbers, ratios = [point.number for point in points], [point.facts["latency_ratio"] for point in points]
        for point in points:
            axes.plot([point.number] * 2, point.facts.get("latency_ratio_interval") or [], color=colour, linewidth=1.2)
        axes.plot(numbers, ratios, f"-{marker}", color=colour, linewidth=0.8, markersize=4.5, label=plain(place))
    highest = max(max(point.facts.get("latency_ratio_interval") or [point.facts["latency_ratio"]]) for point in told)
    axes.set_ylim(0, 1.15 * highest)
    axes.set_xticks([point.number for point in told], [str(point.number) for point in told])
    axes.tick_params(axis="y", labelcolor=MUTED)
    axes.set_xlabel("measurement, oldest first, with its 95 % interval")
    axes.set_ylabel("latency over fp32's")
    axes.grid(axis="y", linewidth=0.6)
    figure.legend(frameon=False, fontsize=9.5, loc="outside upper left", ncols=4)
    said = "; ".join(f"{point.number}: {point.facts['latency_ratio']:.3f} on {point.place}" for point in told)
    return inline_svg(figure, name, f"History of {series.recipe}", f"{said}.")


def names(runs: Sequence[Run]) -> list[str]:
    """Short names of runs beside each other: the target, or the recipe where a target has several."""
    targets = [run.result.target for run in runs]
    words = [run.result.recipe.split("_") for run in runs]
    shared = next((place for place, same in enumerate(zip(*words, strict=False)) if len(set(same)) > 1), 0)
    return [
        target if targets.count(target) == 1 else "_".join(parts[shared:])
        for target, parts in zip(targets, words, strict=True)
    ]


def _axes(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()
