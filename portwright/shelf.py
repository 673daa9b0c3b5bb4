"""What earlier runs left: artifacts by key, measurements by key, device and host."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portwright.calls import StageCall, unique
from portwright.history import History, Measurement, this_host
from portwright.store import Artifact, Manifest, Store

IDENTITY_DIGITS = 12
MANY = 1000


@dataclass(frozen=True, kw_only=True)
class Done:
    """A call with its outcome: an artifact, or the measurement that is shown for it."""

    call: StageCall
    cached: bool
    artifact: Artifact | None = None
    measurement: Measurement | None = None

    @property
    def facts(self) -> dict[str, Any]:
        return self._record.facts

    @property
    def versions(self) -> dict[str, str]:
        return self._record.versions

    @property
    def seconds(self) -> float:
        return self._record.seconds

    @property
    def cpu_seconds(self) -> float | None:
        return self._record.cpu_seconds

    @property
    def peak_memory_bytes(self) -> int:
        return self._record.peak_memory_bytes

    @property
    def _record(self) -> Manifest | Measurement:
        record = self.artifact.manifest if self.artifact else self.measurement
        assert record is not None
        return record


class Shelf:
    """What is already there: artifacts by key, measurements by key, device and host."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root)
        self.history = History(root)

    def find(self, call: StageCall) -> Done | None:
        """The outcome of an earlier run, or None."""
        if call.kind == "artifact":
            artifact = self.store.get(call.key)
            return Done(call=call, cached=True, artifact=artifact) if artifact else None
        measurement = self.history.last(call.key, device_of(call), this_host())
        # A figure that means nothing is no reason not to measure again.
        if measurement is None or measurement.facts.get("verdict") == "invalid":
            return None
        return Done(call=call, cached=True, measurement=measurement)

    def there(self, calls: Iterable[StageCall]) -> set[str]:
        """Keys of those calls whose outcome is here."""
        asked = unique(calls)
        if len(asked) > MANY:
            # Thousands of files that aren't there take longer to open than all that are there to list.
            kept = set(self.store.keys())
            asked = [call for call in asked if call.kind != "artifact" or call.key in kept]
        return {call.key for call in asked if self.find(call)}

    @property
    def empty(self) -> bool:
        """Whether nothing was made or measured yet."""
        return next(self.store.keys(), None) is None and self.history.empty

    def find_all(self, calls: Sequence[StageCall]) -> list[Done] | None:
        """The outcome of every call, or None if one is missing."""
        found: list[Done] = []
        for call in calls:
            done = self.find(call)
            if done is None:
                return None
            found.append(done)
        return found


def device_of(call: StageCall) -> str:
    """The device a measurement asks for, as its history is filed: with another driver it is another one."""
    identity = f"-{call.identity[:IDENTITY_DIGITS]}" if call.identity else ""
    return f"{call.params.get('runtime', 'host')}-{call.params.get('device', 'cpu')}{identity}"
