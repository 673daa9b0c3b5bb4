"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from stagelib import machine
from stagelib.api import Format, StageError, cpu_count
from stagelib.modelinfo import ModelInfo
from stagelib.ortrun import CPU, OrtSession, ort_failures
from stagelib.runtimes.base import NO_OPTIONS, ExecutedOn, Options

if TYPE_CHECKING:
    import onnxruntime

PACKAGES: tuple[str, ...] = ("onnxruntime", "numpy")
FORMATS: tuple[Format, ...] = ("onnx",)
PROVIDERS = {"cpu": CPU}


def load(folder: Path, *, device: str = "cpu", threads: int | None = None, options: Options = NO_OPTIONS) -> OrtSession:
    """Load the ONNX model of `folder`; StageError for a device this runtime doesn't serve or a model it can't read.

    `options` by name: attributes of SessionOptions, and its configuration entries (those with a dot).
    """
    import onnxruntime

    provider = PROVIDERS.get(device.lower())
    if provider is None:
        raise StageError(f"runtime onnxruntime has no device {device!r}", hint=f"known: {', '.join(sorted(PROVIDERS))}")
    info = ModelInfo.read(folder)
    if info.format != "onnx":
        raise StageError(f"runtime onnxruntime can't load a model in {info.format} format")
    settings: dict[str, str | int | None] = {"provider": provider, "intra_op_num_threads": threads or cpu_count()}
    settings |= options
    try:
        session = onnxruntime.InferenceSession(str(folder / info.entry), _options(settings), providers=[provider])
    except ort_failures() as error:
        raise StageError(f"ONNX Runtime can't load {info.entry}: {error}", kind="stage") from error
    return OrtSession(session, settings, machine.cpu_model())


def executed_on(device: str) -> ExecutedOn:
    """The processor is all this runtime serves."""
    del device
    return "cpu"


def candidates(device: str, threads: int) -> Mapping[str, Options]:
    """Graph optimization, and how many threads wait for each other in which way; docs/measuring.md says what else was
    tried and never gained anything.
    """
    del device
    # Fused operators are not always the faster ones. Unfused integers may be another model, and are then refused.
    basic: Options = {"graph_optimization_level": "ORT_ENABLE_BASIC"}
    if threads == 1:
        return {"basic graph optimization": basic}
    return {
        "basic graph optimization": basic,
        "no spinning": {"session.intra_op.allow_spinning": "0"},
        "short spinning": {"session.intra_op.spin_duration_us": "50"},
        "half the threads": {"intra_op_num_threads": threads // 2},
    }


def _options(settings: Mapping[str, str | int | None]) -> onnxruntime.SessionOptions:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = 1
    for name, value in settings.items():
        if "." in name:
            options.add_session_config_entry(name, str(value))
        elif name == "graph_optimization_level":
            options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, str(value))
        elif name != "provider":
            setattr(options, name, value)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    # Idle workers otherwise go on spinning after a run and take the CPUs from whatever is measured next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options
