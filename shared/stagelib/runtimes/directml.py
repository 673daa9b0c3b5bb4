"""ONNX Runtime with DirectML: any GPU of a Windows machine that has a DirectX 12 driver. Not verified here."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from stagelib.api import Format, StageError, cpu_count
from stagelib.modelinfo import ModelInfo
from stagelib.ortrun import CPU, OrtSession, hardware_name, ort_failures
from stagelib.runtimes.base import ExecutedOn

if TYPE_CHECKING:
    import onnxruntime

PACKAGES: tuple[str, ...] = ("onnxruntime-directml", "numpy")
FORMATS: tuple[Format, ...] = ("directml", "onnx")
PROVIDER = "DmlExecutionProvider"
_DEVICE = re.compile(r"^gpu(?:\.(\d+))?$")


def load(folder: Path, *, device: str = "gpu", threads: int | None = None) -> OrtSession:
    """Load the model of `folder` on a GPU: `gpu`, or `gpu.1` for the second adapter.

    StageError where there is no DirectML, or the GPU or the model can't be had. Nodes that DirectML has no kernel for
    go to the CPU, as ONNX Runtime decides it: `placement` tells, and the gate judges.
    """
    adapter = _adapter(device)
    _check_system()
    import onnxruntime

    if PROVIDER not in onnxruntime.get_available_providers():
        raise StageError(
            f"this ONNX Runtime ({onnxruntime.__version__}) has no DirectML",
            hint="install onnxruntime-directml, and no other onnxruntime beside it",
        )
    info = ModelInfo.read(folder)
    if info.format not in FORMATS:
        raise StageError(f"runtime directml can't load a model in {info.format} format")
    settings: dict[str, str | int | None] = {
        "provider": PROVIDER,
        "device_id": adapter,
        "intra_op_num_threads": threads or cpu_count(),
    }
    try:
        session = onnxruntime.InferenceSession(
            str(folder / info.entry),
            _options(settings),
            providers=[(PROVIDER, {"device_id": str(adapter)}), CPU],
        )
    except ort_failures() as error:
        raise StageError(
            f"DirectML can't load {info.entry} on adapter {adapter}: {error}",
            hint="is the GPU's DirectX 12 driver installed?",
        ) from error
    return OrtSession(session, settings, _adapter_name(adapter))


def executed_on(device: str) -> ExecutedOn:
    """DirectML runs on GPUs alone; what ONNX Runtime leaves to the CPU is in the placement."""
    _adapter(device)
    return "device"


def _adapter(device: str) -> int:
    match = _DEVICE.match(device.lower())
    if match is None:
        raise StageError(
            f"runtime directml has no device {device!r}", hint="known: gpu, and gpu.1 for the second adapter"
        )
    return int(match[1] or 0)


def _adapter_name(adapter: int) -> str:
    """The adapter as Windows describes it; where ONNX Runtime doesn't list it, its number."""
    import onnxruntime

    for device in onnxruntime.get_ep_devices():
        if device.ep_name == PROVIDER and device.device.metadata.get("DxgiAdapterNumber") == str(adapter):
            return hardware_name(device)
    return f"DirectX 12 adapter {adapter}"


def _check_system() -> None:
    if sys.platform != "win32":
        raise StageError(
            f"DirectML runs on Windows, and this is {sys.platform}",
            hint="run it with --engine=venv on a Windows machine; elsewhere the target's stand-in executes on the CPU",
        )


def _options(settings: Mapping[str, str | int | None]) -> onnxruntime.SessionOptions:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # The provider takes neither memory patterns nor parallel execution.
    options.enable_mem_pattern = False
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = settings["intra_op_num_threads"]
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options
