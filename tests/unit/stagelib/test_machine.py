"""What is read of the machine."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest

from stagelib.api import GRANTED, cpu_count
from stagelib.machine import allowed_cpus, describe_machine, parse_cpuinfo, versions

CPUINFO = "processor\t: 0\nmodel name\t: A Chip\nflags\t\t: fpu avx2\n\nprocessor\t: 1\nmodel name\t: Another\n"


def test_the_first_processor_speaks_for_all() -> None:
    assert parse_cpuinfo(CPUINFO) == {"processor": "0", "model name": "A Chip", "flags": "fpu avx2"}


def test_the_description_names_the_cpus_of_this_process() -> None:
    described = describe_machine()
    assert described["cpus_allowed"] == allowed_cpus()
    assert described["cpu_model"]


def test_a_stage_counts_the_processors_it_was_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(GRANTED, raising=False)
    everything = cpu_count()
    assert everything == len(allowed_cpus())
    for text, count in (("1", 1), ("100000", everything), ("0", 1), ("many", everything), ("", everything)):
        monkeypatch.setenv(GRANTED, text)
        assert cpu_count() == count


def test_versions_are_what_the_packages_say_of_themselves() -> None:
    installed = {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions()}
    assert versions([*installed, "no-such-distribution"]) == installed


def test_the_first_place_that_has_a_distribution_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, version in (("one", "2.0+cpu"), ("two", "1.0")):
        (tmp_path / place / f"My_Package-{version}.dist-info").mkdir(parents=True)
    (tmp_path / "archive.zip").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path / name) for name in ("archive.zip", "gone", "one", "two")])
    assert versions(["my.package"]) == {"my.package": "2.0+cpu"}
