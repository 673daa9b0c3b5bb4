"""What a container is given of a device, and which devices no container can have."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docker.types import DeviceRequest

from portwright.devices import Access, DriverFile, Node
from portwright.engines.base import Job
from portwright.engines.docker_container import Limits, container_options
from portwright.engines.docker_device import check_device, gpu_request
from portwright.engines.venv import VenvEngine
from portwright.errors import EngineError
from portwright.packages import PackageSettings

NODE = Node(path="/dev/accel/accel0", source=Path("/dev/accel/accel0"), uid=0, gid=109, mode=0o660)
STAGE = (1234567, 1234567)
"""uid and gid of a stage: nobody's on this machine."""
REQUEST = DeviceRequest(count=-1, capabilities=[["gpu"]])


def access(*nodes: Node, **more: Any) -> Access:
    return Access(**{"name": "npu", "title": "an NPU", "system": "linux", "nodes": nodes, **more})


def options(given: Access | None, tmp_path: Path, **more: Any) -> dict[str, Any]:
    job = Job(stage="s", params={}, inputs={}, output=tmp_path, log=tmp_path / "log", label="t/s", access=given, **more)
    paths = SimpleNamespace(scratch="/scratch")
    exchange: Any = SimpleNamespace(call="/call", stage_library="/stagelib", mounts=["one"], paths=paths)
    return container_options(job, exchange, Limits(STAGE, 1 << 30, REQUEST), PackageSettings())


def test_a_stage_without_a_device_is_given_none(tmp_path: Path) -> None:
    given = options(None, tmp_path)
    assert {"devices", "group_add", "device_requests", "ulimits"} & set(given) == set()
    assert "LD_LIBRARY_PATH" not in given["environment"]


def test_what_a_call_was_granted_is_its_share_and_no_limit(tmp_path: Path) -> None:
    alone = options(None, tmp_path, alone=True)
    shared = options(None, tmp_path, threads=2, memory=1 << 20)
    assert {"cpu_shares", "mem_reservation"} & set(alone) == set()
    assert (shared["cpu_shares"], shared["mem_reservation"]) == (2048, 1 << 20)
    assert shared["mem_limit"] == shared["memswap_limit"] == alone["mem_limit"]
    assert shared["environment"]["OMP_NUM_THREADS"] == shared["environment"]["STAGELIB_THREADS"] == "2"
    assert "OMP_NUM_THREADS" not in alone["environment"]
    # Where time is measured, the model gets nothing that it won't have where it serves.
    assert "GLIBC_TUNABLES" in shared["environment"]
    assert "GLIBC_TUNABLES" not in alone["environment"]
    # The kernel refuses more shares than these, and the engine a reservation above the limit.
    assert options(None, tmp_path, threads=384)["cpu_shares"] == 262_144
    assert options(None, tmp_path, memory=1 << 40)["mem_reservation"] == alone["mem_limit"]


def test_a_device_is_given_and_nothing_else_is_loosened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADSP_LIBRARY_PATH", "/usr/lib/dsp")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/my/own")
    library = tmp_path / "libdriver.so.1"
    library.touch()
    given = options(
        access(
            NODE,
            mounts=(DriverFile(library, "/run/driver/libdriver.so.1"),),
            environment=("ADSP_LIBRARY_PATH", "NOT_SET"),
            locked_memory=True,
        ),
        tmp_path,
    )
    without = options(None, tmp_path)
    assert given.pop("devices") == [
        {"PathOnHost": "/dev/accel/accel0", "PathInContainer": "/dev/accel/accel0", "CgroupPermissions": "rw"}
    ]
    assert given.pop("group_add") == ["109"]
    assert given.pop("ulimits") == [{"Name": "memlock", "Soft": -1, "Hard": -1}]
    added = dict(set(given["environment"].items()) - set(without["environment"].items()))
    assert added == {"LD_LIBRARY_PATH": "/run/driver", "ADSP_LIBRARY_PATH": "/usr/lib/dsp"}
    mounts = given.pop("mounts")
    assert mounts[:1] == without.pop("mounts")
    assert [(item["Target"], item["Source"], item["ReadOnly"]) for item in mounts[1:]] == [
        ("/run/driver/libdriver.so.1", str(library), True)
    ]
    for changed in ("environment", "name", "labels"):
        del given[changed], without[changed]
    assert given == without
    assert given["cap_drop"] == ["ALL"]


def test_gpus_are_requested_only_by_a_device_that_has_them(tmp_path: Path) -> None:
    assert options(access(gpus="nvidia"), tmp_path)["device_requests"] == [REQUEST]
    assert "device_requests" not in options(access(NODE), tmp_path)


def test_an_engine_with_nvidias_runtime_takes_a_device_request() -> None:
    found = gpu_request({"Runtimes": {"runc": {}, "nvidia": {}}, "CDISpecDirs": None})
    assert found is not None
    assert (found["Driver"], found["Count"], found["Capabilities"]) == ("", -1, [["gpu", "compute", "utility"]])


@pytest.mark.parametrize(
    ("name", "text"),
    [("nvidia.yaml", "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\n"), ("n.json", '{"kind": "nvidia.com/gpu"}')],
)
def test_an_engine_with_cdi_takes_the_gpus_that_a_file_describes(tmp_path: Path, name: str, text: str) -> None:
    info = {"Runtimes": {"runc": {}}, "CDISpecDirs": [str(tmp_path / "absent"), str(tmp_path)]}
    assert gpu_request(info) is None
    (tmp_path / "other.yaml").write_text("kind: intel.com/gpu\n")
    assert gpu_request(info) is None
    (tmp_path / name).write_text(text)
    found = gpu_request(info)
    assert found is not None
    assert (found["Driver"], found["DeviceIDs"]) == ("cdi", ["nvidia.com/gpu=all"])


def test_an_engine_that_lists_its_devices_is_believed(tmp_path: Path) -> None:
    (tmp_path / "nvidia.yaml").write_text("kind: nvidia.com/gpu\n")
    info: dict[str, Any] = {"CDISpecDirs": [str(tmp_path)], "DiscoveredDevices": []}
    assert gpu_request(info) is None
    info["DiscoveredDevices"] = [{"Source": "cdi", "ID": "nvidia.com/gpu=all"}]
    assert gpu_request(info) is not None


def test_nvidias_hook_alone_serves_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_request({}) is None
    programs = {"nvidia-container-runtime-hook": "/usr/bin/it"}
    monkeypatch.setattr("portwright.engines.docker_device.shutil.which", programs.get)
    assert gpu_request({}) is not None


def refused(given: Access, user: tuple[int, int] = STAGE) -> str:
    with pytest.raises(EngineError) as caught:
        check_device(given, user, None)
    return str(caught.value)


def test_an_engine_without_gpus_names_what_gives_it_some() -> None:
    check_device(access(gpus="nvidia"), STAGE, REQUEST)
    assert "nvidia-container-toolkit" in refused(access(gpus="nvidia"))


def test_a_device_of_windows_is_for_no_container() -> None:
    assert "--engine=venv" in refused(access(system="windows"))


@pytest.mark.parametrize("mode", [0o660, 0o666])
def test_a_node_that_a_group_or_everybody_may_open(mode: int) -> None:
    check_device(access(Node(path="/dev/a", source=Path("/dev/a"), uid=0, gid=109, mode=mode)), STAGE, None)


@pytest.mark.parametrize(("gid", "mode"), [(0, 0o660), (109, 0o600), (109, 0o640)])
def test_a_node_that_an_unprivileged_stage_may_not_open(gid: int, mode: int) -> None:
    closed = Node(path="/dev/accel/accel0", source=Path("/dev/absent"), uid=0, gid=gid, mode=mode)
    text = refused(access(closed))
    assert f"/dev/accel/accel0 (owner 0, group {gid}, mode 0{mode:o})" in text
    assert "udev" in text


def test_a_rootless_engine_has_no_groups(tmp_path: Path) -> None:
    theirs = replace(NODE, uid=os.getuid() + 1)
    assert "rootless" in refused(access(theirs), (0, 0))
    mine = Node(path="/dev/a", source=tmp_path, uid=os.getuid(), gid=0, mode=0o600)
    check_device(access(mine), (0, 0), None)


def test_a_venv_stage_gets_the_drivers_variables_only_with_a_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/driver/lib")
    monkeypatch.setenv("XILINX_XRT", "/opt/xrt")
    monkeypatch.setenv("MINE", "1")
    engine = VenvEngine(tmp_path, tmp_path, PackageSettings())
    job = Job(stage="s", params={}, inputs={}, output=tmp_path, log=tmp_path / "log")
    assert {"LD_LIBRARY_PATH", "XILINX_XRT", "MINE"} & set(engine._environment(job, tmp_path, tmp_path)) == set()
    assert "STAGELIB_THREADS" not in engine._environment(job, tmp_path, tmp_path)
    assert engine._environment(replace(job, threads=1), tmp_path, tmp_path)["STAGELIB_THREADS"] == "1"
    with_device = Job(
        stage="s",
        params={},
        inputs={},
        output=tmp_path,
        log=tmp_path / "log",
        access=access(
            NODE, environment=("XILINX_XRT", "NOT_SET"), mounts=(DriverFile(tmp_path, "/usr/local/cuda/lib64"),)
        ),
    )
    passed = engine._environment(with_device, tmp_path, tmp_path)
    assert passed["LD_LIBRARY_PATH"] == "/opt/driver/lib:/usr/local/cuda/lib64"
    assert passed["XILINX_XRT"] == "/opt/xrt"
    assert {"MINE", "NOT_SET"} & set(passed) == set()


def test_a_venv_stage_needs_the_right_to_open_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = VenvEngine(tmp_path, tmp_path, PackageSettings())
    engine.admit(access(Node(path="/dev/null", source=Path("/dev/null"), uid=0, gid=0, mode=0o666)))
    monkeypatch.setattr("portwright.engines.venv.may_open", lambda _: False)
    with pytest.raises(EngineError, match="may not open /dev/accel/accel0") as caught:
        engine.admit(access(NODE))
    assert "usermod --append --groups" in caught.value.hint
