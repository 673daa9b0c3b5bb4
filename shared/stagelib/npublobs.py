"""Blobs for Intel's NPU, compiled by OpenVINO ahead of time: neither a driver nor an NPU is needed, only the compiler.

OpenVINO's NPU plugin loads the compiler from a library of its own folder. Its wheels come without that library.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stagelib.api import StageError

if TYPE_CHECKING:
    import openvino

DEVICE = "NPU"
LOADER = "openvino_intel_npu_compiler_loader"
TRAILER = b"OVNPU"
"""What OpenVINO writes at the end of every blob that it exports."""
# What the plugin says where the library is there and isn't one that it can use.
UNUSABLE = ("VCL compiler loading failed", "Unsupported VCL version")
PLATFORM = "platform"
"""The key in `Variant.built_for` that names the NPU's generation, in OpenVINO's own words."""


@dataclass(frozen=True, kw_only=True)
class Blob:
    """A compiled blob, and what its compiler says of it."""

    content: bytes
    built_for: Mapping[str, Any]


def library() -> Path:
    """Where the plugin of the OpenVINO that is installed looks for its compiler, whether it is there or not."""
    import openvino

    name = f"{LOADER}.dll" if sys.platform == "win32" else f"lib{LOADER}.so"
    return Path(openvino.__file__).parent / "libs" / name


def compile_blob(core: openvino.Core, model: openvino.Model, platform: str) -> Blob:
    """Compile for one platform; StageError where the compiler can't be used, or refuses the model."""
    # PLUGIN alone: by default OpenVINO would turn to a driver's compiler, and the result would depend on the host.
    settings = {"NPU_PLATFORM": platform, "NPU_COMPILER_TYPE": "PLUGIN", "PERFORMANCE_HINT": "LATENCY"}
    try:
        compiled = core.compile_model(model, DEVICE, settings)
        exported = compiled.export_model()
    except RuntimeError as error:
        raise _failure(platform, str(error)) from error
    content = exported if isinstance(exported, bytes) else exported.getvalue()
    if not content.endswith(TRAILER):
        raise StageError(f"what OpenVINO exported for NPU platform {platform} doesn't end as its blobs do")
    return Blob(content=content, built_for={PLATFORM: platform, "device": DEVICE, **_facts(compiled)})


def _failure(platform: str, text: str) -> StageError:
    reason = " ".join(text.split("\n")[-12:]).strip()
    if any(words in text for words in UNUSABLE):
        return StageError(
            f"Intel's NPU compiler is there, and OpenVINO can't use it: {reason}",
            hint="take the library of the same OpenVINO release, with the one that it loads",
        )
    return StageError(f"Intel's NPU compiler can't compile the model for platform {platform}: {reason}")


def _facts(compiled: openvino.CompiledModel) -> dict[str, Any]:
    import openvino

    version = int(compiled.get_property("NPU_COMPILER_VERSION"))
    facts = {
        "openvino": openvino.get_version().split("-")[0],
        "compiler_version": f"{version >> 16}.{version & 0xFFFF}",
    }
    supported = set(compiled.get_property("SUPPORTED_PROPERTIES"))
    if "RUNTIME_REQUIREMENTS" in supported:
        # What the compiler itself says a driver must offer to run the blob.
        facts["requirements"] = str(compiled.get_property("RUNTIME_REQUIREMENTS"))
    return facts
