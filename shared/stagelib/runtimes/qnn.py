"""Qualcomm's execution provider: the Hexagon NPU, its emulator on x86, or the Adreno GPU.

NPU and GPU were not verified here: no machine with one was at hand.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stagelib import machine
from stagelib.api import Format, StageError
from stagelib.modelinfo import ModelInfo, Variant
from stagelib.ortrun import OrtSession, hardware_name, ort_placement
from stagelib.runtimes.base import ExecutedOn

if TYPE_CHECKING:
    import onnxruntime

PACKAGES: tuple[str, ...] = ("onnxruntime", "onnxruntime-qnn", "numpy")
FORMATS: tuple[Format, ...] = ("qnn_context", "onnx")
FORMATS_OF: dict[str, tuple[Format, ...]] = {
    "EMULATOR": ("qnn_context",),
    "NPU": ("qnn_context", "onnx"),
    "GPU": ("onnx",),
}
INSTALL = {
    "NPU": "Windows on ARM64 with the NPU's driver, or Linux on ARM64 with Qualcomm's fastrpc (libcdsprpc.so) and "
    "access to /dev/fastrpc-cdsp* or /dev/adsprpc-smd*; and onnxruntime-qnn for that system",
    "GPU": "Adreno's OpenCL driver, and onnxruntime-qnn for ARM64",
    "EMULATOR": "run it on x86-64; a device of Qualcomm's has the NPU itself",
}
X86 = frozenset({"x86_64", "amd64"})
Verdict = Literal["optimal", "prefer_recompilation", "unsupported", "not_applicable"]
NOTHING_SAID: Verdict = "not_applicable"


def load(folder: Path, *, device: str = "NPU", threads: int | None = None) -> OrtSession:
    """Load the model of `folder`; StageError where the device, its backend or the right chip's context isn't there.

    A context compiled for another chip is refused on an NPU. The emulator runs any, and proves nothing about the chip.
    """
    del threads
    name = _checked(device)
    info = ModelInfo.read(folder)
    if info.format not in FORMATS_OF[name]:
        raise StageError(
            f"runtime qnn on {name} loads {' or '.join(FORMATS_OF[name])}, not {info.format}",
            hint="put compile_qnn at the end of the recipe" if name == "EMULATOR" else "choose another device",
        )
    if name == "EMULATOR" and platform.machine().lower() not in X86:
        raise StageError(f"no emulator on {platform.machine()}: only x86-64 has one", hint=INSTALL[name])
    options = _options(name)
    entry = _for_this_device(info.variants).entry if name == "NPU" and info.variants else info.entry
    session = _session(folder / entry, name, options)
    settings = {"device": name, "model": entry, **{key: Path(value).name for key, value in options.items()}}
    return OrtSession(session, settings, _device_name(name))


def executed_on(device: str) -> ExecutedOn:
    """The emulator computes on this processor what the NPU would: that is neither the device nor a plain CPU."""
    return "emulator" if _checked(device) == "EMULATOR" else "device"


def _checked(device: str) -> str:
    name = device.upper()
    if name not in FORMATS_OF:
        raise StageError(f"runtime qnn has no device {device!r}", hint="known: emulator, NPU, GPU")
    return name


def _options(name: str) -> dict[str, str]:
    import onnxruntime_qnn

    if name == "NPU":
        # Where Hexagon's own half of the backend lies: on Linux the DSP's loader looks nowhere else.
        os.environ.setdefault("ADSP_LIBRARY_PATH", onnxruntime_qnn.LIB_DIR_FULL_PATH)
    if name == "GPU":
        return {"backend_path": onnxruntime_qnn.get_qnn_gpu_path()}
    burst = {"htp_performance_mode": "burst"} if name == "NPU" else {}
    return {"backend_path": onnxruntime_qnn.get_qnn_htp_path(), **burst}


def _device_name(name: str) -> str:
    """The chip where Linux knows it, else what ONNX Runtime says of the device."""
    if name == "EMULATOR":
        return f"Qualcomm's emulator on {machine.cpu_model()}"
    if soc := _soc_name():
        return f"{soc} {name}"
    from stagelib import qnnfiles

    found = qnnfiles.devices(name)[0]
    # On Linux for ARM64 ONNX Runtime takes all for the processor, and would call the NPU so.
    return hardware_name(found) if found.device.type.name == name else f"Qualcomm {name}"


def _kind(name: str) -> str:
    """ONNX Runtime's word for the device; the emulator is the processor."""
    return "" if name == "EMULATOR" else name


def _session(model: Path, name: str, options: Mapping[str, str]) -> onnxruntime.InferenceSession:
    """A session with nothing on the CPU or, where a part of the model is, one whose placement shows it.

    A backend that doesn't load leaves all of it to the CPU, and the provider is listed all the same: that is an error.
    """
    from stagelib import qnnfiles

    kind = _kind(name)
    try:
        return qnnfiles.session(model, options, {"session.disable_cpu_ep_fallback": "1"}, kind)
    except StageError:
        session = qnnfiles.session(model, options, {}, kind)
    placed = ort_placement(session)
    if not any(part.where == qnnfiles.PROVIDER for part in placed):
        raise StageError(
            f"Qualcomm's {name} backend took nothing of {model.name}: all of it would have run on the CPU",
            hint=INSTALL[name],
        )
    return session


def _for_this_device(variants: Sequence[Variant]) -> Variant:
    """The variant that the device's own driver says it can run; ONNX Runtime asks it."""
    from onnxruntime.capi.onnxruntime_pybind11_state import (
        OrtCompiledModelCompatibility as Status,
    )
    from onnxruntime.capi.onnxruntime_pybind11_state import get_model_compatibility_for_ep_devices

    from stagelib import qnnfiles

    words: dict[Any, Verdict] = {
        Status.EP_SUPPORTED_OPTIMAL: "optimal",
        Status.EP_SUPPORTED_PREFER_RECOMPILATION: "prefer_recompilation",
        Status.EP_UNSUPPORTED: "unsupported",
        Status.EP_NOT_APPLICABLE: NOTHING_SAID,
    }
    devices = qnnfiles.devices("NPU")
    said = [
        words[get_model_compatibility_for_ep_devices(devices, str(variant.built_for.get("compatibility", "")))]
        for variant in variants
    ]
    return choose(variants, said, _soc_name())


def choose(variants: Sequence[Variant], said: Sequence[Verdict], soc: str) -> Variant:
    """The best variant by the driver's verdicts or, where it says nothing, by the chip's name; StageError for none.

    A driver takes what was compiled for an older architecture as well, so that the chip's own name goes first.
    """
    usable = [
        (variant, verdict)
        for variant, verdict in zip(variants, said, strict=True)
        if verdict in {"optimal", "prefer_recompilation"} or (verdict == NOTHING_SAID and _chip(variant) == soc.upper())
    ]
    if not usable:
        built = ", ".join(f"{_chip(variant)} ({verdict})" for variant, verdict in zip(variants, said, strict=True))
        raise StageError(
            f"no variant of the model is for this device{f' ({soc})' if soc else ''}; built for {built}",
            hint="add its SoC model to `socs` of compile_qnn and build again, or install a driver as new as the SDK "
            f"that compiled it; if the driver isn't there: {INSTALL['NPU']}",
        )
    return min(usable, key=lambda pair: (_chip(pair[0]) != soc.upper(), pair[1] != "optimal"))[0]


def _chip(variant: Variant) -> str:
    return str(variant.built_for.get("chip", ""))


def _soc_name() -> str:
    """The chip's name as Linux knows it (/sys/devices/soc0/machine, `SM8650`); empty where it doesn't."""
    path = Path("/sys/devices/soc0/machine")
    return path.read_text().strip() if path.is_file() else ""
