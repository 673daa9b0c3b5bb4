"""What two runs must share before their figures may be held against each other, and what they don't."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from portwright.checked import StrictModel
from stagelib.protocol import protocol

if TYPE_CHECKING:
    from portwright.results import RunResult

HOST_CLASS = ("cpu_model", "architecture", "isa_flags", "cpus_allowed")
MAX_SHOWN = 60
SAID = {"number": "measurement protocol"}
"""Fields whose names say little by themselves."""


class Protocol(StrictModel):
    """How a run was measured, as far as its figures depend on it."""

    number: Annotated[int, Field(description="of the measurement protocol; 1 where the measurement names none")] = 1
    inputs_sha256: Annotated[str, Field(description="of the batches that were timed")]
    evaluation_sha256: Annotated[
        str | None, Field(description="of the texts that similarity was judged on; null where it was not")
    ]
    batch_size: int
    sequence_length: int
    threads: Annotated[tuple[int, ...], Field(description="of each pass: one pinned, then all")]
    baseline: Annotated[
        dict[str, Any] | None, Field(description="runtime, device, threads and settings of fp32; null without one")
    ] = None


def protocol_of(benchmark: Mapping[str, Any], evaluation: Mapping[str, Any]) -> Protocol:
    """The protocol of a run from the facts of its two measurements."""
    found = protocol(benchmark, evaluation["inputs_sha256"])
    return Protocol.model_validate({**found, "threads": tuple(found["threads"])})


def unlike(left: RunResult, right: RunResult, protocols: tuple[Protocol | None, Protocol | None]) -> list[str]:
    """What differs so that comparing would mislead, one line each; empty where the two are alike.

    What can't be told counts as differing: a comparison that may be wrong is none.
    """
    found = [f"{name}: {_shown(one)} and {_shown(other)}" for name, one, other in _pairs(left, right) if one != other]
    first, second = protocols
    if first is None or second is None:
        sides = " and ".join(name for name, side in (("A", first), ("B", second)) if side is None)
        found.append(f"inputs and protocol of {sides} can't be told: neither result nor history says what was measured")
        return found
    for name in Protocol.model_fields:
        one, other = getattr(first, name), getattr(second, name)
        if one != other:
            said = SAID.get(name, name.replace("_", " "))
            found.append(f"{said}: {_shown(one)} and {_shown(other)}")
    return found


def _pairs(left: RunResult, right: RunResult) -> Iterator[tuple[str, Any, Any]]:
    """Name and both values of what must be equal, beside the protocol."""
    yield "model (digest)", left.model.digest, right.model.digest
    yield "executed on", left.executed_on, right.executed_on
    yield "device", left.device, right.device
    yield "device asked for", left.executed.asked, right.executed.asked
    yield "what ships was executed", left.executed.deployable, right.executed.deployable
    yield "evaluated texts", left.data.evaluation_samples, right.data.evaluation_samples
    for name in HOST_CLASS:
        yield f"host's {name.replace('_', ' ')}", _host(left, name), _host(right, name)
    if left.placement.runtime == right.placement.runtime:
        # Another runtime has settings of its own: then they are part of what is compared. So are those that each side's
        # own search found.
        yield "settings", _default_settings(left), _default_settings(right)


def _host(result: RunResult, name: str) -> Any:
    """CPUs by count: their numbers say nothing about what they are."""
    value = result.environment.get(name)
    return len(value) if name == "cpus_allowed" and isinstance(value, list) else value


def _default_settings(result: RunResult) -> dict[str, Any]:
    found = result.session_settings.get("one_thread")
    return found.default if found else result.settings


def _shown(value: Any) -> str:
    text = "nothing" if value is None or value == "" else str(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"
