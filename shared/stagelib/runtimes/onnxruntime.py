"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from stagelib import machine
from stagelib.api import Format, StageError, cpu_count
from stagelib.modelinfo import ModelInfo
from stagelib.ortrun import CPU, OrtSession, ort_failures
from stagelib.runtimes.base import ExecutedOn

if TYPE_CHECKING:
    import onnxruntime

PACKAGES: tuple[str, ...] = ("onnxruntime", "numpy")
FORMATS: tuple[Format, ...] = ("onnx",)
PROVIDERS = {"cpu": CPU}


def load(folder: Path, *, device: str = "cpu", threads: int | None = None) -> OrtSession:
    """Load the ONNX model of `folder`; StageError for a device this runtime doesn't serve or a model it can't read."""
    import onnxruntime

    provider = PROVIDERS.get(device.lower())
    if provider is None:
        raise StageError(f"runtime onnxruntime has no device {device!r}", hint=f"known: {', '.join(sorted(PROVIDERS))}")
    info = ModelInfo.read(folder)
    if info.format != "onnx":
        raise StageError(f"runtime onnxruntime can't load a model in {info.format} format")
    settings: dict[str, str | int | None] = {"provider": provider, "intra_op_num_threads": threads or cpu_count()}
    try:
        session = onnxruntime.InferenceSession(str(folder / info.entry), _options(settings), providers=[provider])
    except ort_failures() as error:
        raise StageError(f"ONNX Runtime can't load {info.entry}: {error}", kind="stage") from error
    return OrtSession(session, settings, machine.cpu_model())


def executed_on(device: str) -> ExecutedOn:
    """The processor is all this runtime serves."""
    del device
    return "cpu"


def _options(settings: Mapping[str, str | int | None]) -> onnxruntime.SessionOptions:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings["intra_op_num_threads"]
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    # Idle workers otherwise go on spinning after a run and take the CPUs from whatever is measured next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options
