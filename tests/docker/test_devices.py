"""Device nodes in real containers: exactly those that were found, to read and write, by whoever owns them here."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from portwright.devices import Access, DriverFile, Node, find
from portwright.engines.base import Job
from portwright.engines.docker import DockerEngine
from portwright.errors import EngineError
from portwright.target_file import DeviceSpec, NodeSpec
from portwright.toolchain import Toolchain

pytestmark = pytest.mark.docker
FUSE = os.makedev(10, 229)
"""A device that no container may open unless it is given it."""
GROUP = 47110
LOOK = """
import os, stat
from dataclasses import dataclass
from pathlib import Path
from stagelib.api import Result, Stage
@dataclass(frozen=True, kw_only=True)
class Params:
    pass
STAGE = Stage(summary="what of /dev is there", params=Params)
def opens(path):
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError as error:
        return error.strerror
    return True
def run(call, params):
    nodes = [path for path in Path("/dev").rglob("*") if stat.S_ISCHR(path.lstat().st_mode) and "pts" not in path.parts]
    driver = Path("/run/driver/libdriver.so.1")
    return Result(facts={
        "nodes": sorted(map(str, nodes)),
        "accel": {str(path): [path.stat().st_rdev, opens(path)] for path in Path("/dev").glob("accel/*")},
        "groups": os.getgroups(),
        "libraries": os.environ.get("LD_LIBRARY_PATH"),
        "driver": [driver.read_text(), os.access(driver, os.W_OK)] if driver.exists() else None,
        "capabilities": Path("/proc/self/status").read_text().split("CapEff:")[1].split()[0],
    })
"""


@pytest.fixture
def look(engine: DockerEngine, shared: Path, ort: Toolchain, job: Job) -> Any:
    """What a stage sees that is given a device, or none."""
    (shared / "stagelib" / "stages" / "look.py").write_text(LOOK)

    def run(access: Access | None) -> Any:
        if access is not None:
            engine.admit(access)
        return engine.run(ort, replace(job, stage="look", access=access), lambda _: None).facts

    return run


def own_node(folder: Path) -> tuple[Path, tuple[int, ...]]:
    """A node that is no container's by default, and the groups a stage needs for it. Only root can make one."""
    if os.getuid() != 0:
        return Path("/dev/fuse"), ()
    node = folder / "fuse"
    os.mknod(node, stat.S_IFCHR, FUSE)
    os.chown(node, 0, GROUP)
    node.chmod(0o660)
    return node, (GROUP,)


def test_a_container_has_the_node_that_it_was_given_and_no_other(look: Any, tmp_path: Path) -> None:
    source, groups = own_node(tmp_path)
    status = source.stat()
    mode = stat.S_IMODE(status.st_mode)
    node = Node(path="/dev/accel/accel0", source=source, uid=status.st_uid, gid=status.st_gid, mode=mode)
    library = tmp_path / "libdriver.so.1.9"
    library.write_text("driver")
    mounts = (DriverFile(library, "/run/driver/libdriver.so.1"),)
    without = look(None)
    given = look(Access(name="npu", title="a stand-in", system="linux", nodes=(node,), mounts=mounts))
    assert without["accel"] == {}
    assert set(given["nodes"]) - set(without["nodes"]) == {"/dev/accel/accel0"}
    assert given["accel"] == {"/dev/accel/accel0": [status.st_rdev, True]}
    assert set(given["groups"]) - set(without["groups"]) == set(groups)
    assert (given["libraries"], given["driver"]) == ("/run/driver", ["driver", False])
    assert (without["libraries"], without["driver"]) == (None, None)
    assert int(given["capabilities"], 16) == 0


def test_what_is_found_on_this_machine_is_what_a_container_gets(look: Any) -> None:
    spec = DeviceSpec(
        title="a stand-in", runtime="none", device="NPU", nodes=(NodeSpec(path="/dev/zer[o]"),), install="nothing"
    )
    access = find("npu", spec)
    moved = replace(access, nodes=tuple(replace(node, path="/dev/accel/accel0") for node in access.nodes))
    assert look(moved)["accel"] == {"/dev/accel/accel0": [os.makedev(1, 5), True]}


def test_an_engine_elsewhere_has_no_device_of_this_machine(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portwright.engines.docker.shares_files", lambda *_: False)
    zero = Node(path="/dev/accel/accel0", source=Path("/dev/zero"), uid=0, gid=0, mode=0o666)
    with pytest.raises(EngineError) as caught:
        look(Access(name="npu", title="a stand-in", system="linux", nodes=(zero,)))
    assert "device 'npu' can't be used through the engine" in str(caught.value)
    assert "--engine=venv" in caught.value.hint


def test_gpus_that_the_engine_can_not_give_are_refused(engine: DockerEngine) -> None:
    gpus = Access(name="gpu", title="a GPU", system="linux", gpus="nvidia")
    if engine._connection().gpus is not None:
        engine.admit(gpus)
        return
    with pytest.raises(EngineError, match="nvidia-container-toolkit"):
        engine.admit(gpus)
