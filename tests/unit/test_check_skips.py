"""Which skipped tests CI takes, and which it doesn't."""

from __future__ import annotations

from importlib import util
from pathlib import Path
from typing import Any

from portwright.project import this_project

CASE = '<testcase classname="{}" name="{}">{}</testcase>'
SKIPPED = '<skipped message="no NPU here"/>'


def load() -> Any:
    found = util.spec_from_file_location("check_skips", this_project().root / "scripts" / "check_skips.py")
    assert found is not None
    assert found.loader is not None
    module = util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def report(folder: Path, *cases: str) -> Path:
    path = folder / "tests.xml"
    path.write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")
    return path


def test_a_skipped_docker_test_fails_and_a_skipped_device_is_told(tmp_path: Path) -> None:
    ran = CASE.format("tests.docker.test_a", "ran", "")
    device = CASE.format("tests.device.test_b", "npu", SKIPPED)
    tried = CASE.format("tests.device.test_b", "gpu", "")
    skipped = CASE.format("tests.docker.test_a", "skipped", SKIPPED)
    check = load()
    assert check.faults(report(tmp_path, ran, device, tried)) == []
    assert check.not_tried(report(tmp_path, ran, device, tried)) == ["not tried: tests.device.test_b::npu: no NPU here"]
    assert check.faults(report(tmp_path, ran, skipped)) == ["skipped: tests.docker.test_a::skipped"]
    assert check.faults(report(tmp_path, device)) == ["no test of tests.docker ran"]
