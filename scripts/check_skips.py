"""Fails where a Docker test was skipped, or none ran, and tells what was not tried: `check_skips.py JUNIT_XML`.

Device tests may be skipped: few machines have one device, and none has all.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

MUST_RUN = "tests.docker"
MAY_BE_SKIPPED = "tests.device"


def faults(report: Path) -> list[str]:
    """What is wrong with the run that a JUnit report tells of; empty where nothing is."""
    cases = list(_cases(report, MUST_RUN))
    if not cases:
        return [f"no test of {MUST_RUN} ran"]
    return [f"skipped: {_name(case)}" for case in cases if case.find("skipped") is not None]


def not_tried(report: Path) -> list[str]:
    """The device tests that were skipped, each with its reason."""
    skips = ((case, case.find("skipped")) for case in _cases(report, MAY_BE_SKIPPED))
    return [f"not tried: {_name(case)}: {skip.get('message')}" for case, skip in skips if skip is not None]


def _cases(report: Path, folder: str) -> Iterator[ET.Element]:
    cases = ET.parse(report).iter("testcase")  # noqa: S314 - pytest wrote it
    return (case for case in cases if case.get("classname", "").startswith(folder))


def _name(case: ET.Element) -> str:
    return f"{case.get('classname')}::{case.get('name')}"


if __name__ == "__main__":
    for line in not_tried(Path(sys.argv[1])):
        print(f"ci: {line}")
    found = faults(Path(sys.argv[1]))
    for fault in found:
        print(f"ci: {fault}", file=sys.stderr)
    sys.exit(1 if found else 0)
