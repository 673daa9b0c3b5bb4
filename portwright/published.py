"""Figures that others published for a kind of hardware: data of a target, shown beside ours, never measured here."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from portwright.checked import StrictModel


class PublishedFigures(StrictModel):
    """Figures somebody else published for this kind of hardware, as printed; never measured here."""

    source: str
    device: str
    latency_mean_ms: float | None = None
    latency_min_ms: float | None = None
    latency_max_ms: float | None = None
    latency_p90_ms: float | None = None
    throughput_mean: Annotated[float | None, Field(description="inferences/s, printed as tokens/s")] = None
    throughput_max: float | None = None
    throughput_min: float | None = None
    similarity: float | None = None
    note: Annotated[str, Field(description="what is wrong with them, if anything is")] = ""
