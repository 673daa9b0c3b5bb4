"""Measurements: appended, never replaced, under (call, device, host). They are not artifacts: time and place matter."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from portwright.checked import StrictModel
from portwright.disk import storage_error, sync_folder
from portwright.naming import slug


class Measurement(StrictModel):
    """One measurement of an artifact: what was found, with every raw sample."""

    taken: str
    """When, ISO 8601, UTC."""
    run: str
    key: str
    stage: str
    engine: str
    device: str
    host: str
    facts: dict[str, Any]
    samples: tuple[dict[str, Any], ...]
    versions: dict[str, str]
    seconds: float
    cpu_seconds: float | None = None
    peak_memory_bytes: int


def this_host() -> str:
    """The name under which this machine's measurements are kept."""
    return slug(platform.node() or "host")


class History:
    """`measurements/<key>/<device>@<host>.jsonl`, one measurement a line, the last line the newest."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "measurements"
        self._place = os.fspath(self._folder)

    @property
    def empty(self) -> bool:
        """Whether nothing was ever measured."""
        return not self._folder.is_dir() or next(self._folder.iterdir(), None) is None

    def path(self, key: str, device: str, host: str) -> Path:
        return self._folder / key / f"{slug(device)}@{host}.jsonl"

    def last(self, key: str, device: str, host: str) -> Measurement | None:
        """The newest whole line; a line cut short by a crash is passed over."""
        if not os.path.isdir(f"{self._place}/{key}"):  # noqa: PTH112 - no Path for each of a plan's thousands of keys
            return None
        try:
            lines = self.path(key, device, host).read_text(encoding="utf-8").splitlines()
        except OSError:
            return None
        for line in reversed(lines):
            try:
                return Measurement.model_validate_json(line)
            except ValidationError:
                continue
        return None

    def append(self, measurement: Measurement) -> None:
        """Add a measurement, durably; StoreError where the disk refuses."""
        path = self.path(measurement.key, measurement.device, measurement.host)
        line = json.dumps(measurement.model_dump(mode="json"), separators=(",", ":")) + "\n"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("r+b" if path.exists() else "w+b") as file:
                # A line cut short by a crash is ended, so that ours is whole.
                if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n":
                    file.write(b"\n")
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
            sync_folder(path.parent)
        except OSError as error:
            raise storage_error(path, error) from error


def sample_lines(measurement: Measurement) -> list[Mapping[str, Any]]:
    """Raw samples, each saying which stage took it and when."""
    return [{"stage": measurement.stage, "taken": measurement.taken, **sample} for sample in measurement.samples]
