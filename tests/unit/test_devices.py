"""Devices are found by driver in a made-up /dev and /sys, and what is missing is said in words."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import pytest

from portwright.devices import Access, Node, find, is_char_device
from portwright.errors import EngineError, UsageError
from portwright.target_file import DeviceSpec, NodeSpec

NPU = NodeSpec(path="/dev/accel/accel*", driver="intel_vpu")
RENDER = NodeSpec(path="/dev/dri/renderD*", optional=True)
INSTALL = "install Intel's NPU driver"


def spec(*nodes: NodeSpec, **more: Any) -> DeviceSpec:
    return DeviceSpec(title="Intel NPU", runtime="openvino", device="NPU", nodes=nodes, install=INSTALL, **more)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A root with an Intel NPU behind accel1 and an AMD one behind accel0."""
    put(tmp_path, "accel/accel0", "amdxdna")
    put(tmp_path, "accel/accel1", "intel_vpu")
    put(tmp_path, "dri/card0", "i915")
    put(tmp_path, "dri/renderD128", "i915")
    put(tmp_path, "null")
    return tmp_path


def put(root: Path, name: str, driver: str = "") -> Path:
    """A file that stands for a node, and the links by which the kernel names its driver."""
    node = root / "dev" / name
    node.parent.mkdir(parents=True, exist_ok=True)
    node.touch()
    node.chmod(0o660)
    if driver:
        kind, _, short = name.partition("/")
        device = root / "sys" / "devices" / kind / short
        device.mkdir(parents=True)
        (device / "driver").symlink_to(f"../../../bus/pci/drivers/{driver}")
        entry = root / "sys" / "class" / kind / short
        entry.mkdir(parents=True)
        (entry / "device").symlink_to(device)
    return node


def look(root: Path, device: DeviceSpec) -> Access:
    return find("npu", device, root, system="linux", is_node=Path.is_file)


def missed(root: Path, device: DeviceSpec) -> str:
    with pytest.raises(EngineError) as caught:
        look(root, device)
    assert caught.value.message == "device 'npu' (Intel NPU) isn't on this machine"
    assert caught.value.hint == INSTALL
    return caught.value.why


def test_a_node_is_told_by_its_driver_and_not_by_its_number(machine: Path) -> None:
    [node] = look(machine, spec(NPU)).nodes
    assert (node.path, node.source) == ("/dev/accel/accel1", machine / "dev/accel/accel1")
    assert (node.uid, node.gid, node.mode) == (os.getuid(), os.getgid(), 0o660)
    amd = NodeSpec(path="/dev/accel/accel*", driver="amdxdna")
    assert [node.path for node in look(machine, spec(amd)).nodes] == ["/dev/accel/accel0"]


def test_another_driver_kernel_or_library_makes_it_another_device(machine: Path) -> None:
    device = spec(NPU, mounts=("/usr/lib/libze_intel_npu.so*",))
    write(machine / "proc/sys/kernel/osrelease", "6.1.0\n")
    write(machine / "sys/module/intel_vpu/srcversion", "A1\n")
    library = write(machine / "usr/lib/libze_intel_npu.so.1.2", "code")
    before = look(machine, device)
    assert before.identity == (
        "driver intel_vpu A1",
        "library libze_intel_npu.so.1.2 4",
        "kernel 6.1.0",
        f"host {platform.node()}",
    )
    seen = {before.identity_digest}
    for path, text in (
        ("sys/module/intel_vpu/version", "2.0"),
        ("proc/sys/kernel/osrelease", "6.2.0"),
        ("proc/driver/nvidia/version", "NVRM 580.1"),
    ):
        write(machine / path, text)
        seen.add(look(machine, device).identity_digest)
    library.rename(library.with_suffix(".3"))
    seen.add(look(machine, device).identity_digest)
    assert len(seen) == 5
    assert look(machine, device).identity_digest == look(machine, device).identity_digest


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_exactly_what_was_asked_for_is_found(machine: Path) -> None:
    access = look(machine, spec(NPU, RENDER, NodeSpec(path="/dev/dma_heap/system", optional=True)))
    assert [node.path for node in access.nodes] == ["/dev/accel/accel1", "/dev/dri/renderD128"]
    assert access.gpus is None
    assert access.mounts == ()
    assert str(access) == "npu (Intel NPU): /dev/accel/accel1, /dev/dri/renderD128"


def test_a_node_that_two_patterns_name_is_passed_once(machine: Path) -> None:
    twice = spec(NPU, NodeSpec(path="/dev/accel/accel1"))
    assert [node.path for node in look(machine, twice).nodes] == ["/dev/accel/accel1"]


def test_another_driver_is_named(machine: Path) -> None:
    (machine / "dev/accel/accel1").unlink()
    assert missed(machine, spec(NPU)) == (
        "looked for /dev/accel/accel* with the driver intel_vpu: "
        "/dev/accel/accel0 is there, but its driver is amdxdna, not intel_vpu"
    )


def test_a_node_without_a_driver_is_not_taken_on_trust(tmp_path: Path) -> None:
    put(tmp_path, "accel/accel0")
    assert "/dev/accel/accel0 is there, but the kernel names no driver of it" in missed(tmp_path, spec(NPU))


def test_nothing_there_says_what_was_looked_for(tmp_path: Path) -> None:
    heap = NodeSpec(path="/dev/dma_heap/system")
    assert missed(tmp_path, spec(NPU, heap, RENDER)) == (
        "looked for /dev/accel/accel* with the driver intel_vpu: there is none; "
        "looked for /dev/dma_heap/system: there is none"
    )


def test_of_optional_nodes_one_at_least_must_be_there(machine: Path, tmp_path: Path) -> None:
    either = spec(RENDER, NodeSpec(path="/dev/dxg", optional=True))
    assert [node.path for node in look(machine, either).nodes] == ["/dev/dri/renderD128"]
    (machine / "dev/dri/renderD128").unlink()
    assert "looked for /dev/dxg: there is none" in missed(tmp_path, either)


def test_a_file_is_no_device(machine: Path) -> None:
    with pytest.raises(EngineError, match="/dev/accel/accel1 is there, but is no device node"):
        find("npu", spec(NPU), machine, system="linux")
    assert is_char_device(Path("/dev/null"))


@pytest.mark.parametrize("node", ["nvidiactl", "nvidia0"])
def test_an_nvidia_gpu_is_there_if_its_driver_made_a_node(tmp_path: Path, node: str) -> None:
    gpu = spec(gpus="nvidia")
    assert "looked for /dev/nvidiactl and /dev/nvidia[0-9]*: not there" in missed(tmp_path, gpu)
    put(tmp_path, node)
    access = look(tmp_path, gpu)
    assert (access.gpus, access.nodes) == ("nvidia", ())


def test_an_nvidia_gpu_of_wsl(tmp_path: Path) -> None:
    put(tmp_path, "dxg")
    gpu = spec(gpus="nvidia")
    assert missed(tmp_path, gpu)
    (tmp_path / "usr/lib/wsl/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/wsl/lib/libcuda.so.1").touch()
    assert look(tmp_path, gpu).gpus == "nvidia"


def test_the_drivers_files_that_exist_are_given(machine: Path) -> None:
    libraries = machine / "usr/lib/x86_64-linux-gnu"
    (machine / "usr/lib/wsl/lib").mkdir(parents=True)
    libraries.mkdir(parents=True)
    (libraries / "libze_intel_npu.so.1.9").write_text("driver")
    (libraries / "libze_intel_npu.so.1").symlink_to("libze_intel_npu.so.1.9")
    (libraries / "libc.so.6").touch()
    (machine / "etc/OpenCL/vendors").mkdir(parents=True)
    (machine / "etc/OpenCL/vendors/intel.icd").touch()
    (libraries / "intel-opencl").mkdir()
    wanted = (
        "/usr/lib/x86_64-linux-gnu/libze_intel_npu.so*",
        "/usr/lib/wsl",
        "/usr/lib/x86_64-linux-gnu/intel-opencl",
        "/etc/OpenCL/vendors/*.icd",
        "/usr/lib/not-there",
    )
    access = look(machine, spec(NPU, mounts=wanted))
    assert {item.target: item.source for item in access.mounts} == {
        "/run/driver/libze_intel_npu.so.1": libraries / "libze_intel_npu.so.1.9",
        "/run/driver/libze_intel_npu.so.1.9": libraries / "libze_intel_npu.so.1.9",
        "/usr/lib/wsl": machine / "usr/lib/wsl",
        "/usr/lib/x86_64-linux-gnu/intel-opencl": libraries / "intel-opencl",
        "/etc/OpenCL/vendors/intel.icd": machine / "etc/OpenCL/vendors/intel.icd",
    }
    assert access.libraries == ("/run/driver", "/usr/lib/wsl/lib", "/usr/lib/x86_64-linux-gnu/intel-opencl")


def node(mode: int, uid: int = 0, gid: int = 109) -> Node:
    return Node(path="/dev/a", source=Path("/dev/a"), uid=uid, gid=gid, mode=mode)


@pytest.mark.parametrize(
    ("found", "groups"),
    [
        (node(0o660), (109,)),
        (node(0o666), ()),
        (node(0o600), ()),
        (node(0o640), ()),
        (node(0o660, gid=0), ()),
    ],
)
def test_a_group_is_given_only_where_it_opens_a_node(found: Node, groups: tuple[int, ...]) -> None:
    assert Access(name="npu", title="NPU", system="linux", nodes=(found, found)).groups == groups


def test_who_may_open_a_node() -> None:
    assert node(0o660).opens_to(1000, (109,))
    assert not node(0o660).opens_to(1000, (110,))
    assert node(0o600, uid=1000).opens_to(1000, ())
    assert not node(0o066, uid=1000).opens_to(1000, (109,))
    assert not node(0o444).opens_to(1000, (109,))


def test_another_system_is_a_wrong_wish(machine: Path) -> None:
    with pytest.raises(UsageError) as caught:
        find("gpu", spec(systems=("windows",)), machine, system="linux")
    assert "it is for windows, and this is linux" in caught.value.why
    with pytest.raises(UsageError, match="this is macos"):
        find("gpu", spec(NPU), machine, system="macos")


def test_windows_gives_devices_to_processes_by_itself(tmp_path: Path) -> None:
    access = find("npu", spec(NPU, systems=("linux", "windows"), environment=("A",)), tmp_path, system="windows")
    assert (access.system, access.nodes, access.environment) == ("windows", (), ("A",))
    assert access.identity == (f"system {platform.version()}", f"host {platform.node()}")
