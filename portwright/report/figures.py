"""How a report writes its figures, and what it takes out of the free-form parts of a result and its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portwright.accuracy_gate import interval
from portwright.report.data import Run
from portwright.results import Accuracy, RunResult, SettingTried

NONE = "–"  # noqa: RUF001 - what stands in a table where there is no figure
SHORT = 12


def milliseconds(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def ratio(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def cosine(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"


def per_second(value: float | None) -> str:
    return NONE if value is None else f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"  # noqa: PLR2004


def percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.1f} %"


def change(value: float) -> str:
    """How much more or less, with its sign."""
    return f"{100 * value:+.1f} %"


def points(value: float | None) -> str:
    """A difference of accuracies, in percentage points."""
    return NONE if value is None else f"{100 * value:+.2f}"


def drop_span(found: Accuracy) -> str:
    """The drop's 95 % interval as the gate takes it, in points: it has a width where no answer differs, too."""
    low, high = interval(found.only_fp32, found.only_optimized, found.samples)
    return f"{points(low)} to {points(high)}"


def megabytes(value: int) -> str:
    return f"{value / 1e6:.1f}"


def date(value: str) -> str:
    """`2026-11-24 18:22:09 UTC` for an ISO date in UTC."""
    return value.replace("T", " ").replace("+00:00", " UTC")


def short(value: str) -> str:
    return value[:SHORT]


def span(values: tuple[float, float] | None, digits: int = 3) -> str:
    """An interval; empty where there is none."""
    return "" if values is None else f"{values[0]:.{digits}f} to {values[1]:.{digits}f}"


def told(passed: bool | None) -> str:  # noqa: FBT001 - a filter of the page
    """A gate's outcome in words."""
    return {True: "passed", False: "failed", None: "nothing here can tell"}[passed]


def rows(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A free-form mapping as names and texts; nested ones with their path."""
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        label = name.replace("_", " ")
        if isinstance(value, Mapping):
            found += [(f"{label}: {inner}", text) for inner, text in rows(value)]
        else:
            found.append((label, _text(value)))
    return found


def session_settings(result: RunResult) -> list[tuple[str, str]]:
    """What was tried for each number of threads, and what was chosen; ratios are to the default settings' time."""
    found: list[tuple[str, str]] = []
    for name, one in result.session_settings.items():
        tried = [*(_tried(item) for item in one.tried), *([f"again, {_tried(one.again)}"] if one.again else [])]
        label = f"session settings, {name.replace('_', ' ')}"
        found.append((label, f"{one.chosen} ({'; '.join(tried) or 'nothing else was tried'})"))
    return found


def _tried(one: SettingTried) -> str:
    return f"{one.name}: {f'{ratio(one.ratio)} ({span(one.interval)})' if one.interval else one.refused or NONE}"


def versions(run: Run) -> list[tuple[str, str, str]]:
    """Toolchain, its digest, and the versions it held, as the manifest records them."""
    digests, held = _mapping(run.manifest.get("toolchains")), _mapping(run.manifest.get("versions"))
    names = [*held, *(name for name in digests if name not in held)]
    return [
        (
            str(name),
            _text(digests.get(name)),
            ", ".join(f"{key} {value}" for key, value in _mapping(held.get(name)).items()),
        )
        for name in names
    ]


def files(run: Run) -> list[tuple[str, str, str]]:
    """Name, size in bytes and SHA-256 of everything that ships."""
    return [
        (
            str(name),
            f"{entry.get('size', NONE):,}" if isinstance(entry.get("size"), int) else NONE,
            _text(entry.get("sha256")),
        )
        for name, entry in _mapping(run.manifest.get("files")).items()
        if isinstance(entry, Mapping)
    ]


def made_for(run: Run) -> str:
    """The model that the recipe names, if the run took another one."""
    recipe = _mapping(run.manifest.get("recipe"))
    source = str(_mapping(recipe.get("model")).get("source", ""))
    return source if source and not run.result.model.source.startswith(source) else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    if value is None or value in ([], ""):
        return NONE
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    return str(value)
