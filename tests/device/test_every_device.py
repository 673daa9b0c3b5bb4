"""Runs on the real devices of the targets, each where it is: elsewhere skipped, with what is missing as the reason.

A runner that has a device says so with PORTWRIGHT_REQUIRE_DEVICE=openvino:npu (several with commas): there a device
that isn't found fails its tests.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from portwright.devices import find
from portwright.errors import EngineError, UsageError
from portwright.project import this_project
from portwright.target_file import DeviceSpec, read_target_file
from support.commands import Portwright

pytestmark = pytest.mark.device
REQUIRE = "PORTWRIGHT_REQUIRE_DEVICE"
FILES = [read_target_file(path) for path in sorted(this_project().targets.glob("*/target.toml"))]
DEVICES = [
    pytest.param(file.name, name, spec, id=f"{file.name}-{name}")
    for file in FILES
    for name, spec in file.devices.items()
]


def require(target: str, device: str, spec: DeviceSpec) -> None:
    """Skip where the device isn't, or fail if this machine is said to have it."""
    try:
        find(device, spec)
    except (EngineError, UsageError) as error:
        if f"{target}:{device}" in os.environ.get(REQUIRE, "").replace(" ", "").split(","):
            pytest.fail(f"{REQUIRE} names {target}:{device}: {error}")
        pytest.skip(f"{error.message}: {error.why}")


@pytest.mark.parametrize("engine", ["venv", pytest.param("docker", marks=pytest.mark.docker)])
@pytest.mark.parametrize(("target", "device", "spec"), DEVICES)
def test_a_model_runs_on_the_device(
    request: pytest.FixtureRequest,
    portwright: Portwright,
    minilm: Path,
    texts: Path,
    target: str,
    device: str,
    spec: DeviceSpec,
    engine: str,
) -> None:
    require(target, device, spec)
    if engine == "docker":
        if spec.systems == ("windows",):
            pytest.skip("a container has no device of Windows")
        request.getfixturevalue("docker_engine")
    done = portwright.run(
        "run",
        f"--target={target}",
        f"--device={device}",
        f"--model={minilm}",
        f"--data={texts}",
        f"--engine={engine}",
    )
    # Placement is gated: a run in which the CPU did the device's work ends with 3.
    assert done.code == 0, done.text
    [recipe] = [file.default_recipe for file in FILES if file.name == target]
    result = portwright.result("minilm", recipe)
    assert result["executed_on"] == "device"
    assert result["placement"]["nodes"]
    gates = {gate["name"]: gate["passed"] for gate in result["gates"]}
    assert gates["placement"] is True
    assert result["latency_ms"]["min"] > 0
