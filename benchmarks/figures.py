"""What a suite measures: figures with their spread and, where there is one, what they are held against."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured quantity: every sample of ours and of what it stands beside, taken in turn."""

    name: str
    unit: str
    ours: Sequence[float]
    against: Sequence[float] = ()
    beside: str = ""
    """What `against` is a measurement of."""
    limit: float | None = None
    """The most that is wanted: of the ratio where there is something beside it, of the median itself where not."""
    note: str = ""

    def __post_init__(self) -> None:
        if not self.ours:
            raise ValueError(f"{self.name}: nothing was measured")

    @property
    def value(self) -> float:
        return statistics.median(self.ours)

    @property
    def ratio(self) -> float | None:
        """Ours over what stands beside it, by their medians; None where nothing does."""
        return self.value / statistics.median(self.against) if self.against else None

    @property
    def held(self) -> bool | None:
        """Whether the limit is held; None where there is none."""
        if self.limit is None:
            return None
        return (self.value if self.ratio is None else self.ratio) <= self.limit

    def row(self) -> tuple[str, ...]:
        ratio = self.ratio
        return (
            self.name,
            _spread(self.ours, self.unit),
            f"{self.beside}: {_spread(self.against, self.unit)}" if self.against else "",
            "" if ratio is None else f"{ratio:.2f}",
            "" if self.limit is None else f"{self.limit:g}" + ("" if self.held else " (missed)"),
            self.note,
        )


HEADER = ("figure", "ours", "beside it", "ratio", "at most", "note")


def markdown(figures: Sequence[Figure]) -> str:
    """A table of figures."""
    rows = [HEADER, ("---",) * len(HEADER), *(figure.row() for figure in figures)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _spread(samples: Sequence[float], unit: str) -> str:
    """The median, and from where to where the samples go."""
    if not samples:
        return ""
    middle = f"{_short(statistics.median(samples))} {unit}".rstrip()
    return middle if len(samples) == 1 else f"{middle} ({_short(min(samples))} to {_short(max(samples))})"


def _short(value: float) -> str:
    """Three digits, and whole numbers from a hundred on."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004
