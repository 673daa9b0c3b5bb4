"""OpenVINO, on whichever of its devices is asked for by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stagelib.api import Format, StageError, cpu_count
from stagelib.modelinfo import ModelInfo
from stagelib.runtimes.base import ExecutedOn, Placed

if TYPE_CHECKING:
    import openvino
    from numpy.typing import NDArray

PACKAGES: tuple[str, ...] = ("openvino", "numpy")
FORMATS: tuple[Format, ...] = ("openvino", "onnx")
KINDS = ("CPU", "GPU", "NPU")
NOT_EXECUTED = frozenset({"Input", "Output", "Const", "Constant", "Parameter", "Result"})


def load(folder: Path, *, device: str = "CPU", threads: int | None = None) -> OpenVinoSession:
    """Compile the model of `folder` for one device; StageError where that device is not there or refuses the model."""
    import openvino

    name = _checked(device)
    core = openvino.Core()
    if name.split(".")[0] not in {available.split(".")[0] for available in core.available_devices}:
        have = ", ".join(core.available_devices) or "none"
        raise StageError(
            f"OpenVINO finds no {name} here (devices: {have})",
            hint="install the device's driver, or choose another device",
        )
    settings = _settings(name, threads)
    info = ModelInfo.read(folder)
    try:
        compiled = core.compile_model(core.read_model(folder / info.entry), name, dict(settings))
    except RuntimeError as error:
        raise StageError(f"OpenVINO can't compile {info.entry} for {name}: {error}") from error
    return OpenVinoSession(compiled, {"device": name, **settings})


def executed_on(device: str) -> ExecutedOn:
    """A GPU or NPU is the device; the CPU stands in for it."""
    return "cpu" if _checked(device).startswith("CPU") else "device"


def _checked(device: str) -> str:
    # AUTO and HETERO fall back in silence, and then nobody knows what was measured.
    name = device.upper()
    if name.split(".")[0] not in KINDS:
        raise StageError(f"runtime openvino has no device {device!r}", hint=f"known: {', '.join(KINDS)}")
    return name


def _settings(name: str, threads: int | None) -> dict[str, str | int | None]:
    settings: dict[str, str | int | None] = {"PERFORMANCE_HINT": "LATENCY"}
    if name.startswith("CPU"):
        # By default the CPU computes in bf16 where it can, and a similarity would then depend on the host.
        settings |= {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads or cpu_count(),
            "NUM_STREAMS": 1,
        }
        # The caller chose the CPUs by its affinity; OpenVINO's own pinning would override that.
        settings |= {"ENABLE_CPU_PINNING": "NO"}
    return settings


class OpenVinoSession:
    """A compiled model with one inference request."""

    def __init__(self, compiled: openvino.CompiledModel, settings: Mapping[str, str | int | None]) -> None:
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        self._outputs = [output.any_name for output in compiled.outputs]
        self.inputs: tuple[str, ...] = tuple(tensor.any_name for tensor in compiled.inputs)
        self.settings: Mapping[str, str | int | None] = settings

    def run(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        results = self._request.infer(dict(batch))
        return {name: results[index] for index, name in enumerate(self._outputs)}

    def placement(self) -> tuple[Placed, ...]:
        kinds = [operation.get_rt_info() for operation in self._compiled.get_runtime_model().get_ops()]
        nodes = sum(1 for info in kinds if _layer_type(info) not in NOT_EXECUTED)
        devices = self._compiled.get_property("EXECUTION_DEVICES")
        return (Placed(where=",".join(devices), nodes=nodes),)


def _layer_type(info: Mapping[str, Any]) -> str:
    kind = info["layerType"]
    return str(getattr(kind, "astype", lambda _: kind)(str))
