"""AMD's Vitis AI execution provider: what it is told, and what it says of where nodes run.

Written from AMD's public documentation of Ryzen AI 1.8 (model compilation and deployment; installation on Linux), and
from what its own examples do. Nothing here was run against AMD's provider: not verified here.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stagelib.api import StageError
from stagelib.runtimes.base import Placed

if TYPE_CHECKING:
    from types import ModuleType

PROVIDER = "VitisAIExecutionProvider"
INSIDE = "VitisAIExecutionProvider on the CPU"
"""What the provider has taken and executes on the CPU itself, by its own report."""
DISTRIBUTIONS = ("onnxruntime-vitisai", "voe", "flexml")
CONFIG = "vai_ep_config.json"
"""Ships beside a BF16 model: AMD asks for it again when a compiled one is loaded."""
REPORT = "vitisai_ep_report.json"
REPORT_VARIABLE = "XLNX_ONNX_EP_REPORT_FILE"
INTEGER_TARGETS = ("X1", "X2")
KEY = "model"
"""Name of the model's folder in the provider's cache."""
INSTALL = (
    "put AMD's onnxruntime_vitisai wheel from the Ryzen AI installer into vendor/, with its file name and SHA-256 in "
    "targets/vitisai/target.toml"
)


def providing_runtime() -> ModuleType:
    """The onnxruntime module, if it is AMD's; StageError where it holds no Vitis AI provider."""
    try:
        import onnxruntime
    except ImportError as error:
        raise StageError(f"AMD's onnxruntime can't be loaded: {error}", hint=INSTALL) from error
    have = onnxruntime.get_available_providers()
    if PROVIDER not in have:
        raise StageError(f"this onnxruntime has no {PROVIDER} (it has {', '.join(have) or 'none'})", hint=INSTALL)
    module: ModuleType = onnxruntime
    return module


def installed() -> dict[str, str]:
    """Versions of AMD's distributions that are here."""
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def configuration(optimize_level: int, data_storage: str) -> dict[str, Any]:
    """The configuration file by which the provider compiles a float model to BF16."""
    options = {"optimize_level": optimize_level, "preferred_data_storage": data_storage}
    return {
        "passes": [
            {"name": "init", "plugin": "vaip-pass_init"},
            {"name": "vaiml_partition", "plugin": "vaip-pass_vaiml_partition", "vaiml_config": options},
        ],
        "target": "VAIML",
        "targets": [{"name": "VAIML", "pass": ["init", "vaiml_partition"]}],
    }


def cache_options(folder: Path) -> dict[str, str]:
    """Keep what the provider compiles, and its report, in a folder: only then is a report written."""
    return {"cache_dir": str(folder), "cache_key": KEY, "enable_cache_file_io_in_mem": "0"}


def read_report(cache: Path) -> tuple[Placed, ...]:
    """The provider's own report of which nodes run on the NPU; empty where it wrote none.

    `deviceStat` lists devices with their number of nodes and the kinds of these, `all` among them.
    """
    for path in sorted(cache.rglob(REPORT)):
        devices = json.loads(path.read_text(errors="replace")).get("deviceStat", [])
        return tuple(
            Placed(
                where=PROVIDER if device["name"] == "NPU" else INSIDE,
                nodes=int(device["nodeNum"]),
                ops=_counted(device.get("supportedOpType", ()), int(device["nodeNum"])),
            )
            for device in devices
            if device["name"] != "all" and device["nodeNum"]
        )
    return ()


def _counted(kinds: Sequence[str], nodes: int) -> dict[str, int]:
    """Nodes by operator where the list of kinds tells: one kind, or as many kinds as nodes. Else nobody counted."""
    names = [kind.rpartition("::")[2] for kind in kinds]
    if len(names) == 1:
        return {names[0]: nodes}
    return dict.fromkeys(names, 1) if len(names) == nodes else {}


def inside(reported: Iterable[Placed], left: Mapping[str, int]) -> Placed | None:
    """What the provider has taken and executes on the CPU itself, if it reports such.

    Its report counts with these what it left to ONNX Runtime: `left`, nodes by operator.
    """
    on_cpu = [part for part in reported if part.where == INSIDE]
    nodes = sum(part.nodes for part in on_cpu) - sum(left.values())
    if nodes <= 0:
        return None
    ops = sum((Counter(part.ops) for part in on_cpu), Counter()) - Counter(left)
    return Placed(where=INSIDE, nodes=nodes, ops=dict(ops) if ops.total() == nodes else {})


def device_name(devices: Path = Path("/sys/class/accel")) -> str:
    """The NPU, as AMD's driver names it (`RyzenAI-npu4`); where it doesn't, by its kind alone."""
    for file in sorted(devices.glob("accel*/device/vbnv")):
        return f"AMD {file.read_text().strip()}"
    return "AMD NPU"


def opened_device(handles: Path = Path("/proc/self/fd"), nodes: str = "/dev/accel/") -> bool | None:
    """Whether this process holds an accelerator's device node open; None where the system doesn't tell.

    The provider is listed, and its nodes compute, where it found no NPU: on the CPU, in silence.
    """
    if sys.platform != "linux" or not handles.is_dir():
        return None
    return any(target.startswith(nodes) for target in _targets(handles))


def _targets(handles: Path) -> list[str]:
    found = []
    for handle in handles.iterdir():
        try:
            found.append(str(handle.readlink()))
        except OSError:  # closed at this moment
            continue
    return found


def described(options: Mapping[str, str]) -> dict[str, str | int | None]:
    """Provider options for the record: without the folders, which are another run's."""
    return {name: value for name, value in options.items() if name not in {"cache_dir", "config_file"}}
