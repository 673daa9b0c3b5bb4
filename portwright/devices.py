"""Devices of this machine: the nodes, groups and driver files that a stage needs to reach one, and nothing else.

A node is told by the kernel driver behind it, never by its number: which accelerator is `accel0` depends on the order
in which drivers were loaded.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from portwright.device_identity import identity
from portwright.digests import digest_json
from portwright.errors import EngineError, UsageError
from portwright.target_file import DeviceSpec, NodeSpec

READ_WRITE = 0o6
DRIVER_FILES = "/run/driver"
"""Where a container finds single libraries of a driver. All else keeps its place, which drivers may have built in."""
LIBRARY = ".so"
NVIDIA_NODES = ("/dev/nvidiactl", "/dev/nvidia[0-9]*")
WSL_NODE, WSL_CUDA = "/dev/dxg", "/usr/lib/wsl/lib/libcuda.so.1"
"""In WSL there are no nodes of NVIDIA's: its library goes through Microsoft's."""
_SYSTEMS = {"win32": "windows", "darwin": "macos"}


@dataclass(frozen=True, kw_only=True)
class Node:
    """A device node: its name under /dev, the file that it is here, and who may open it."""

    path: str
    source: Path
    uid: int
    gid: int
    mode: int

    def opens_to(self, uid: int, groups: Iterable[int]) -> bool:
        """Whether an unprivileged user may read and write it. Owner, group, others: the first that fits decides."""
        shift = 6 if uid == self.uid else 3 if self.gid in groups else 0
        return self.mode >> shift & READ_WRITE == READ_WRITE

    def __str__(self) -> str:
        return f"{self.path} (owner {self.uid}, group {self.gid}, mode {self.mode & 0o777:04o})"


@dataclass(frozen=True)
class DriverFile:
    """A file or folder of the driver's user-space half: where it is here, and where a container finds it."""

    source: Path
    target: str


@dataclass(frozen=True, kw_only=True)
class Access:
    """What a stage on a device may touch: only what is there on this machine."""

    name: str
    title: str
    system: str
    nodes: tuple[Node, ...] = ()
    gpus: Literal["nvidia"] | None = None
    mounts: tuple[DriverFile, ...] = ()
    environment: tuple[str, ...] = ()
    locked_memory: bool = False
    identity: tuple[str, ...] = ()
    """Driver, kernel and machine, a line each: another driver is another device to whatever is kept."""

    @property
    def identity_digest(self) -> str:
        """What enters keys and the names of histories; empty where nobody looked."""
        return digest_json(self.identity) if self.identity else ""

    @property
    def groups(self) -> tuple[int, ...]:
        """Groups without which a node doesn't open to everybody. Root's own is never given."""
        needed = {node.gid for node in self.nodes if not node.opens_to(-1, ()) and node.opens_to(-1, (node.gid,))}
        return tuple(sorted(needed - {0}))

    @property
    def libraries(self) -> tuple[str, ...]:
        """Folders in which a container's loader must look for the driver's libraries."""
        single = [DRIVER_FILES for item in self.mounts if item.target.startswith(f"{DRIVER_FILES}/")]
        return tuple(dict.fromkeys([*single, *self.library_folders]))

    @property
    def library_folders(self) -> tuple[str, ...]:
        """Those of them that are the same on this machine."""
        folders = [item for item in self.mounts if item.source.is_dir()]
        return tuple(f"{item.target}/lib" if (item.source / "lib").is_dir() else item.target for item in folders)

    def __str__(self) -> str:
        parts = [*(node.path for node in self.nodes), *(["NVIDIA GPUs"] if self.gpus else [])]
        return f"{self.name} ({self.title}): {', '.join(parts) or 'by the system itself'}"


def find(
    name: str,
    spec: DeviceSpec,
    root: Path = Path("/"),
    *,
    system: str | None = None,
    is_node: Callable[[Path], bool] | None = None,
) -> Access:
    """What of a device is on this machine, under `root`.

    UsageError where this system can't have it; EngineError where it isn't there, with what was looked for, what was
    found in its place, and what to install. Windows gives a device to every process by itself: nothing is looked for.
    """
    here = system or this_system()
    if here not in spec.systems:
        raise UsageError(
            f"device {name!r} ({spec.title}) can't be used on this system",
            why=f"it is for {' and '.join(spec.systems)}, and this is {here}",
            hint=spec.install,
        )
    access = Access(
        name=name,
        title=spec.title,
        system=here,
        gpus=spec.gpus,
        environment=spec.environment,
        locked_memory=spec.locked_memory,
    )
    if here == "windows":
        return replace(access, identity=identity(root, here, (), ()))
    nodes, faults = _nodes(spec, root, is_node or is_char_device)
    if faults:
        title = f"device {name!r} ({spec.title}) isn't on this machine"
        raise EngineError(title, why="; ".join(faults), hint=spec.install)
    mounts = tuple(_mounts(spec, root))
    drivers = [name for node in nodes if (name := _driver(Path(node.path).name, root))]
    found = identity(root, here, drivers, [mount.source for mount in mounts])
    return replace(access, nodes=nodes, mounts=mounts, identity=found)


def this_system() -> str:
    """This operating system, as target.toml names it."""
    return _SYSTEMS.get(sys.platform, sys.platform)


def is_char_device(path: Path) -> bool:
    """Whether a path is a character device, which all accelerators are."""
    return path.is_char_device()


def _nodes(spec: DeviceSpec, root: Path, is_node: Callable[[Path], bool]) -> tuple[tuple[Node, ...], list[str]]:
    """The nodes that are there, and what is missing, each in words."""
    nodes: dict[str, Node] = {}
    missing: dict[bool, list[str]] = {True: [], False: []}
    for wanted in spec.nodes:
        found, others = _matches(wanted, root, is_node)
        nodes |= {node.path: node for node in found}
        if not found:
            missing[wanted.optional].append(_missing(wanted, others))
    faults = missing[False]
    if not faults and spec.nodes and not nodes:
        faults = missing[True]
    if spec.gpus == "nvidia" and not _has_nvidia(root, is_node):
        faults.append(f"looked for {' and '.join(NVIDIA_NODES)}: not there")
    return tuple(nodes.values()), faults


def _matches(wanted: NodeSpec, root: Path, is_node: Callable[[Path], bool]) -> tuple[list[Node], list[str]]:
    """The nodes of a pattern that have the driver, and a remark on each file of it that hasn't."""
    found: list[Node] = []
    others: list[str] = []
    for path in sorted(root.glob(wanted.path.lstrip("/"))):
        name = f"/{path.relative_to(root).as_posix()}"
        driver = _driver(path.name, root) if wanted.driver else ""
        if not is_node(path):
            others.append(f"{name} is there, but is no device node")
        elif wanted.driver and driver != wanted.driver:
            what = f"its driver is {driver}, not {wanted.driver}" if driver else "the kernel names no driver of it"
            others.append(f"{name} is there, but {what}")
        else:
            status = path.stat()
            mode = stat.S_IMODE(status.st_mode)
            found.append(Node(path=name, source=path, uid=status.st_uid, gid=status.st_gid, mode=mode))
    return found, others


def _missing(wanted: NodeSpec, others: list[str]) -> str:
    behind = f" with the driver {wanted.driver}" if wanted.driver else ""
    return f"looked for {wanted.path}{behind}: {', '.join(others) or 'there is none'}"


def _driver(node: str, root: Path) -> str:
    """The kernel driver behind a device's node, by the link that the kernel keeps; empty where it names none."""
    for folder in sorted(root.glob("sys/class/*")):
        link = folder / node / "device" / "driver"
        if link.is_symlink():
            return link.readlink().name
    return ""


def _has_nvidia(root: Path, is_node: Callable[[Path], bool]) -> bool:
    nodes = (path for pattern in NVIDIA_NODES for path in root.glob(pattern.lstrip("/")))
    in_wsl = is_node(root / WSL_NODE.lstrip("/")) and (root / WSL_CUDA.lstrip("/")).exists()
    return in_wsl or any(is_node(path) for path in nodes)


def _mounts(spec: DeviceSpec, root: Path) -> Iterable[DriverFile]:
    """What exists of the driver's files. A library's several names are links to one file: each gets its own."""
    for pattern in spec.mounts:
        for path in sorted(root.glob(pattern.lstrip("/"))):
            place = f"/{path.relative_to(root).as_posix()}"
            library = LIBRARY in path.name and not path.is_dir()
            yield DriverFile(path.resolve(), f"{DRIVER_FILES}/{path.name}" if library else place)


def group_name(gid: int) -> str:
    """A group's name, or its number where it has none."""
    if sys.platform == "win32":
        return str(gid)
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def may_open(node: Node) -> bool:
    """Whether this process may read and write a node, by whatever gives it the right."""
    return os.access(node.source, os.R_OK | os.W_OK)
