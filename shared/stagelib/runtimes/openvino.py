"""OpenVINO, on whichever of its devices is asked for by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stagelib import machine
from stagelib.api import Format, StageError, cpu_count
from stagelib.modelinfo import ModelInfo
from stagelib.npublobs import PLATFORM
from stagelib.runtimes.base import NO_OPTIONS, ExecutedOn, Options, Placed

if TYPE_CHECKING:
    import openvino
    from numpy.typing import NDArray

PACKAGES: tuple[str, ...] = ("openvino", "numpy")
FORMATS: tuple[Format, ...] = ("openvino", "onnx")
BLOB = ".blob"
KINDS = ("CPU", "GPU", "NPU")
NOT_EXECUTED = frozenset({"Input", "Output", "Const", "Constant", "Parameter", "Result"})


def load(
    folder: Path, *, device: str = "CPU", threads: int | None = None, options: Options = NO_OPTIONS
) -> OpenVinoSession:
    """Compile the model of `folder` for one device; StageError where that device is not there or refuses the model.

    `options` are properties of the device's plugin by name.
    """
    import openvino

    name = _checked(device)
    core = openvino.Core()
    if name.split(".")[0] not in {available.split(".")[0] for available in core.available_devices}:
        have = ", ".join(core.available_devices) or "none"
        raise StageError(
            f"OpenVINO finds no {name} here (devices: {have})",
            hint="install the device's driver, or choose another device",
        )
    settings = _settings(name, threads) | dict(options)
    info = ModelInfo.read(folder)
    entry = _entry(core, name, info)
    try:
        compiled = _compiled(core, folder / entry, name, settings)
    except RuntimeError as error:
        raise StageError(f"OpenVINO can't load {entry} for {name}: {error}") from error
    on_cpu = executed_on(device) == "cpu"
    called = machine.cpu_model() if on_cpu else str(core.get_property(name, "FULL_DEVICE_NAME"))
    return OpenVinoSession(compiled, {"device": name, "loaded": entry, **settings}, called)


def executed_on(device: str) -> ExecutedOn:
    """A GPU or NPU is the device; the CPU stands in for it."""
    return "cpu" if _checked(device).startswith("CPU") else "device"


def candidates(device: str, threads: int) -> Mapping[str, Options]:
    """On the CPU fewer threads, as OpenVINO itself would take where a core runs two. No hint gained anything
    (docs/measuring.md).
    """
    if not _checked(device).startswith("CPU") or threads == 1:
        return {}
    return {"half the threads": {"INFERENCE_NUM_THREADS": threads // 2}}


def _checked(device: str) -> str:
    # AUTO and HETERO fall back in silence, and then nobody knows what was measured.
    name = device.upper()
    if name.split(".")[0] not in KINDS:
        raise StageError(f"runtime openvino has no device {device!r}", hint=f"known: {', '.join(KINDS)}")
    return name


def _entry(core: openvino.Core, name: str, info: ModelInfo) -> str:
    """The blob for this very NPU where the model has one; else the portable form, which is compiled now."""
    if not name.startswith("NPU") or not info.variants:
        return info.entry
    platform = str(core.get_property(name, "DEVICE_ARCHITECTURE"))
    blobs = {str(variant.built_for.get(PLATFORM)): variant.entry for variant in info.variants}
    return blobs.get(platform, info.entry)


def _compiled(
    core: openvino.Core, path: Path, name: str, settings: Mapping[str, str | int | None]
) -> openvino.CompiledModel:
    if path.suffix == BLOB:
        # Compiled already, for latency: only the device's own choice is left.
        return core.import_model(path.read_bytes(), name)
    return core.compile_model(core.read_model(path), name, dict(settings))


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

    def __init__(
        self, compiled: openvino.CompiledModel, settings: Mapping[str, str | int | None], device_name: str
    ) -> None:
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        self._outputs = [output.any_name for output in compiled.outputs]
        self.inputs: tuple[str, ...] = tuple(tensor.any_name for tensor in compiled.inputs)
        self.settings: Mapping[str, str | int | None] = settings
        self.device_name = device_name

    def run(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        try:
            results = self._request.infer(dict(batch))
        except RuntimeError as error:
            raise StageError(f"OpenVINO failed while it ran the model: {error}") from error
        return {name: results[index] for index, name in enumerate(self._outputs)}

    def placement(self) -> tuple[Placed, ...]:
        # GPU.0 is the GPU. Several kinds would be a model that OpenVINO has split, and no gate knows such a place.
        kinds = sorted({device.split(".")[0] for device in self._compiled.get_property("EXECUTION_DEVICES")})
        where = ",".join(kinds)
        if where == "NPU":
            # Its plugin shows no layers: what it runs is the whole model as one blob.
            return (Placed(where=where, nodes=1),)
        layers = (_layer_type(operation.get_rt_info()) for operation in self._compiled.get_runtime_model().get_ops())
        ops = Counter(layer for layer in layers if layer not in NOT_EXECUTED)
        return (Placed(where=where, nodes=ops.total(), ops=dict(sorted(ops.items()))),)


def _layer_type(info: Mapping[str, Any]) -> str:
    kind = info["layerType"]
    return str(getattr(kind, "astype", lambda _: kind)(str))
