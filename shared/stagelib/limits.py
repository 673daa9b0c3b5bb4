"""Whether a figure keeps to its recipe's limit, and how that is said: one rule, on host and device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What a gate says of a figure. `passed` is None where nothing here can tell."""

    name: str
    passed: bool | None
    limit: float
    found: float | None
    reason: str


def similar(
    name: str, asked: tuple[float, float], found: tuple[float | None, float | None], samples: int
) -> Iterator[Limit]:
    """Mean and minimum of cosines against the least of each; None, for what is no number, fails."""
    yield _at_least(f"{name}.mean", asked[0], found[0], f"mean cosine over {samples} texts")
    yield _at_least(f"{name}.min", asked[1], found[1], "cosine of the worst text")


def fast_enough(most: float, on: str, ratio: float | None, ran_on: str, up_to: float | None = None) -> Limit:
    """Latency over fp32 against the most allowed, on the device that the gate names and nowhere else.

    `ratio` is None where the measurement means nothing: that fails. `up_to` is the upper end of an unstable one's
    interval: what another run may find, so all of it has to keep to the limit.
    """
    passed: bool | None = ratio is not None and max(ratio, up_to or ratio) <= most
    shown = "not measured" if ratio is None else f"{ratio:.3f}"
    shown += f" (unstable: up to {up_to:.3f})" if ratio is not None and up_to is not None else ""
    reason = f"latency over fp32 is {shown}, at most {most:g} is asked"
    if ran_on != on:
        passed, reason = None, f"latency is judged on {on}, and this ran on {ran_on}"
    return Limit(name="latency_ratio", passed=passed, limit=most, found=ratio, reason=reason)


def unsure_up_to(verdict: str, interval: Sequence[float] | None) -> float | None:
    """The upper end of an unstable measurement's interval, for `fast_enough`; None for any other."""
    return interval[1] if verdict == "unstable" and interval else None


def _at_least(name: str, limit: float, found: float | None, what: str) -> Limit:
    passed = found is not None and found >= limit
    shown = "not a number" if found is None else f"{found:.6f}"
    reason = f"{what} is {shown}, at least {limit:g} is asked"
    return Limit(name=name, passed=passed, limit=limit, found=found, reason=reason)
