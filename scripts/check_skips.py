"""Fails where a Docker test was skipped, or none ran: `check_skips.py JUNIT_XML`."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree as ET

FOLDER = "tests.docker"


def faults(report: Path) -> list[str]:
    """What is wrong with the run that a JUnit report tells of; empty where nothing is."""
    cases = [case for case in ET.parse(report).iter("testcase") if case.get("classname", "").startswith(FOLDER)]  # noqa: S314 - pytest wrote it
    if not cases:
        return [f"no test of {FOLDER} ran"]
    skipped = [case for case in cases if case.find("skipped") is not None]
    return [f"skipped: {case.get('classname')}::{case.get('name')}" for case in skipped]


if __name__ == "__main__":
    found = faults(Path(sys.argv[1]))
    for fault in found:
        print(f"ci: {fault}", file=sys.stderr)
    sys.exit(1 if found else 0)
