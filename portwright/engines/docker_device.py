"""Devices for containers: single nodes, the groups that own them, the driver's files, and GPU requests."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portwright.devices import Access, Node, may_open
from portwright.errors import EngineError

if TYPE_CHECKING:
    from docker.types import DeviceRequest, Mount

NVIDIA = "nvidia"
NVIDIA_HOOK = "nvidia-container-runtime-hook"
"""What makes an engine offer GPUs, its configuration naming no runtime for them."""
CDI_GPUS = "nvidia.com/gpu=all"
CDI_KIND = re.compile(r'"?kind"?:\s*"?nvidia\.com/gpu\b')
TOOLKIT = (
    "install nvidia-container-toolkit, then `nvidia-ctk runtime configure --runtime=docker` (or, for CDI, "
    "`nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`) and restart Docker; or use --engine=venv"
)


def device_options(access: Access | None, gpus: DeviceRequest | None) -> dict[str, Any]:
    """Options of a container that is given a device: exactly its nodes, to read and write, and no right to make any."""
    if access is None:
        return {}
    from docker.types import Ulimit

    options: dict[str, Any] = {
        "devices": [
            {"PathOnHost": os.fspath(node.source), "PathInContainer": node.path, "CgroupPermissions": "rw"}
            for node in access.nodes
        ],
        "group_add": [str(gid) for gid in access.groups],
    }
    if access.gpus:
        options["device_requests"] = [gpus]
    if access.locked_memory:
        # The container's own limit on memory holds for locked memory too.
        options["ulimits"] = [Ulimit(name="memlock", soft=-1, hard=-1)]
    return options


def driver_mounts(access: Access | None) -> list[Mount]:
    """The driver's user-space half, read-only."""
    from docker.types import Mount

    return [
        Mount(target=item.target, source=str(item.source), type="bind", read_only=True)
        for item in (access.mounts if access else ())
    ]


def device_environment(access: Access | None) -> dict[str, str]:
    """Where the loader finds the driver, and what the driver reads of the caller's environment."""
    if access is None:
        return {}
    passed = {name: os.environ[name] for name in access.environment if name in os.environ}
    return {**passed, **({"LD_LIBRARY_PATH": ":".join(access.libraries)} if access.libraries else {})}


def check_device(access: Access, user: tuple[int, int], gpus: DeviceRequest | None) -> None:
    """EngineError where a container that runs as `user` can't have the device."""
    what = f"device {access.name!r} ({access.title})"
    if access.system != "linux":
        raise EngineError(
            f"{what} can't be given to a container", why="it is a device of Windows", hint="use --engine=venv"
        )
    if access.gpus and gpus is None:
        why = f"it has neither the {NVIDIA} runtime nor {CDI_GPUS}"
        raise EngineError(f"Docker has no NVIDIA GPUs to give for {what}", why=why, hint=TOOLKIT)
    for node in access.nodes:
        if not _opens(node, user, access.groups):
            raise EngineError(
                f"{what} is there, but a container can't open {node}",
                why="stages run in a rootless engine, which has none of your groups"
                if user[0] == 0
                else "stages run unprivileged, and no group but root's would let them",
                hint="let the driver's udev rule give the node to a group (render, usually) with mode 0660, "
                "or use --engine=venv",
            )


def _opens(node: Node, user: tuple[int, int], groups: tuple[int, ...]) -> bool:
    """Whether a stage may open a node. In a rootless engine the container's root is the caller, without its groups."""
    mine = (os.getuid(), os.getgid()) if hasattr(os, "getuid") else (-1, -1)
    if user[0] == 0:
        return node.opens_to(mine[0], mine[1:])
    # The caller's right may come from a list of its own (ACL), which a mode doesn't show.
    return node.opens_to(user[0], (user[1], *groups)) or (user == mine and may_open(node))


def gpu_request(info: Mapping[str, Any]) -> DeviceRequest | None:
    """How this engine is asked for all NVIDIA GPUs, by what it says of itself; None where it can't be."""
    from docker.types import DeviceRequest

    if NVIDIA in (info.get("Runtimes") or {}):
        return DeviceRequest(count=-1, capabilities=[["gpu", "compute", "utility"]])
    if _names_gpus(info):
        return DeviceRequest(driver="cdi", device_ids=[CDI_GPUS])
    if shutil.which(NVIDIA_HOOK):
        return DeviceRequest(count=-1, capabilities=[["gpu", "compute", "utility"]])
    return None


def _names_gpus(info: Mapping[str, Any]) -> bool:
    """Whether CDI is on and describes the GPUs: newer engines list devices, older ones only their folders."""
    discovered = info.get("DiscoveredDevices")
    if discovered is not None:
        return any(device.get("ID") == CDI_GPUS for device in discovered)
    folders = [Path(folder) for folder in info.get("CDISpecDirs") or []]
    specs = (path for folder in folders for path in sorted(folder.glob("*")) if path.suffix in {".json", ".yaml"})
    return any(CDI_KIND.search(path.read_text(errors="replace")) for path in specs)
