"""The report as one HTML file: no script, no network, no font of its own; everything escaped by the template engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from portwright.past import Series
from portwright.report import figures, plots
from portwright.report.data import Run, Runs
from portwright.report.notes import notes, published_oddities, tally

TEMPLATES = Path(__file__).parent
FILTERS: Mapping[str, Callable[..., Any]] = {
    "ms": figures.milliseconds,
    "ratio": figures.ratio,
    "cosine": figures.cosine,
    "rate": figures.per_second,
    "percent": figures.percent,
    "change": figures.change,
    "points": figures.points,
    "drop_span": figures.drop_span,
    "mb": figures.megabytes,
    "date": figures.date,
    "short": figures.short,
    "span": figures.span,
    "told": figures.told,
    "rows": figures.rows,
    "session_settings": figures.session_settings,
    "versions": figures.versions,
    "files": figures.files,
    "made_for": figures.made_for,
    "oddities": published_oddities,
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A run in the page, with the name that links lead to."""

    anchor: str
    run: Run
    latency: Markup
    history: Markup

    @property
    def series(self) -> Series:
        return self.run.series


@dataclass(frozen=True, kw_only=True)
class Section:
    """A model in the page."""

    anchor: str
    name: str
    entries: tuple[Entry, ...]
    speed: Markup
    sizes: Markup
    stages: Markup


def page(runs: Runs, made: str) -> str:
    """The whole page; `made` says when, ISO 8601, UTC."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    sections = _sections(runs)
    anchors = {id(entry.run): entry.anchor for section in sections for entry in section.entries}
    return environment.get_template("page.html.j2").render(
        made=made,
        style=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),  # noqa: S704 - a file of ours
        sections=sections,
        runs=runs,
        notes=[(note, anchors.get(id(note.run), "")) for note in notes(runs)],
        tally=tally(runs.runs),
    )


def _sections(runs: Runs) -> list[Section]:
    with plots.plotting():
        return [
            _section(f"model-{number}", name, members)
            for number, (name, members) in enumerate(runs.by_model().items(), start=1)
        ]


def _section(anchor: str, name: str, runs: list[Run]) -> Section:
    entries = [_entry(f"{anchor}-run-{number}", run) for number, run in enumerate(runs, start=1)]
    return Section(
        anchor=anchor,
        name=name,
        entries=tuple(entries),
        speed=_svg(plots.speed_similarity(runs, f"{anchor}-speed")),
        sizes=_svg(plots.sizes(runs, f"{anchor}-size")),
        stages=_svg(plots.stage_times(runs, f"{anchor}-stages")),
    )


def _entry(anchor: str, run: Run) -> Entry:
    return Entry(
        anchor=anchor,
        run=run,
        latency=_svg(plots.latency(run, f"{anchor}-latency")),
        history=_svg(plots.history(run.series, f"{anchor}-history")),
    )


def _svg(text: str) -> Markup:
    return Markup(text)  # noqa: S704 - serialized from a parsed tree, so escaped
