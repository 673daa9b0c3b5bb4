"""Qualcomm's execution provider, a plug-in of stock ONNX Runtime: registered, asked, and its context models read."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stagelib import vendor
from stagelib.api import StageError
from stagelib.ortrun import ort_failures
from stagelib.runtimes.base import Placed

if TYPE_CHECKING:
    import onnx
    import onnxruntime

PROVIDER = "QNNExecutionProvider"
CONTEXT = "EPContext"
COMPATIBILITY = f"ep_compatibility_info.{PROVIDER}"
"""Key of ONNX Runtime's own statement of what a context is good for; it decides by it, on the device."""
STAMP = "portwright."
SDK = "qairt"
"""Name of the vendor archive with Qualcomm's SDK."""
Options = Mapping[str, str]


def devices(kind: str = "") -> list[onnxruntime.OrtEpDevice]:
    """What the provider can run on here, registering it the first time; StageError where it lists nothing.

    With a kind (NPU, GPU) those that ONNX Runtime knows as such. On Linux for ARM64 it tells no kinds: there, all.
    """
    import onnxruntime
    import onnxruntime_qnn

    found = _listed()
    if not found:
        try:
            onnxruntime.register_execution_provider_library(PROVIDER, onnxruntime_qnn.get_library_path())
        except ort_failures() as error:
            raise StageError(
                f"ONNX Runtime can't load Qualcomm's execution provider: {error}",
                hint="onnxruntime-qnn has libraries for Linux and Windows on x86-64 and ARM64",
            ) from error
        found = _listed()
    if not found:
        raise StageError("Qualcomm's execution provider names no device here")
    return _of_kind(found, kind) if kind else found


def _of_kind(found: Sequence[onnxruntime.OrtEpDevice], kind: str) -> list[onnxruntime.OrtEpDevice]:
    chosen = [device for device in found if device.device.type.name == kind]
    if not chosen and sys.platform == "linux" and platform.machine() == "aarch64":
        return list(found)
    if not chosen:
        have = ", ".join(sorted({device.device.type.name for device in found}))
        raise StageError(f"ONNX Runtime sees no {kind} of Qualcomm's here, only {have}")
    return chosen


def _listed() -> list[onnxruntime.OrtEpDevice]:
    import onnxruntime

    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == PROVIDER]


def session(model: Path, options: Options, entries: Options, kind: str = "") -> onnxruntime.InferenceSession:
    """A session of that model on the provider, with the assignment of its nodes recorded.

    StageError where ONNX Runtime can't make one; in strict mode, also where a node would fall to the CPU.
    """
    import onnxruntime

    wanted = onnxruntime.SessionOptions()
    for name, value in {**entries, "session.record_ep_graph_assignment_info": "1"}.items():
        wanted.add_session_config_entry(name, value)
    wanted.add_provider_for_devices(devices(kind), dict(options))
    try:
        return onnxruntime.InferenceSession(str(model), wanted)
    except ort_failures() as error:
        raise StageError(f"Qualcomm's execution provider can't take {model.name}: {error}") from error


def elsewhere(placed: Iterable[Placed]) -> int:
    """Nodes that are not on the provider."""
    return sum(part.nodes for part in placed if part.where != PROVIDER)


@dataclass(frozen=True, kw_only=True)
class Context:
    """A context model as it lies on disk."""

    file: str
    binaries: tuple[str, ...]
    contexts: int
    """EPContext nodes."""
    others: Mapping[str, int]
    """Nodes beside them, by operator."""
    sdk_version: str
    compatibility: str


def read_context(path: Path) -> Context:
    """What a context model says of itself; StageError where it isn't one, or a file that it names isn't beside it."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    nodes = [node for node in model.graph.node if node.op_type == CONTEXT]
    found = [_attributes(node) for node in nodes]
    # Where the graph is in several pieces, only the first names the binary that holds them all.
    main = [values for values in found if "ep_cache_context" in values]
    if not main:
        raise StageError(f"{path.name} holds no {CONTEXT} node: nothing in it was compiled")
    if any(values["embed_mode"] for values in main):
        raise StageError(f"{path.name} has its binary inside: it should lie beside it")
    binaries = dict.fromkeys(values["ep_cache_context"].decode() for values in main)
    for name in binaries:
        if Path(name).name != name or not (path.parent / name).is_file():
            raise StageError(f"{path.name} names {name!r}, which is no file beside it")
    return Context(
        file=path.name,
        binaries=tuple(binaries),
        contexts=len(nodes),
        others=dict(Counter(node.op_type for node in model.graph.node if node.op_type != CONTEXT)),
        sdk_version=main[0].get("ep_sdk_version", b"").decode(),
        compatibility=metadata(model).get(COMPATIBILITY, ""),
    )


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    import onnx

    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def compiler(sdk: str) -> Path:
    """The library that compiles for Hexagon: the one in the wheel, or that of the vendor archive.

    StageError where the archive isn't there, or its library doesn't load.
    """
    import onnxruntime_qnn

    bundled = Path(onnxruntime_qnn.get_qnn_htp_path())
    if sdk != SDK:
        return bundled
    folder = vendor.folder(SDK)
    library = folder / "lib" / "x86_64-linux-clang" / bundled.name if folder else None
    if library is None or not library.is_file():
        raise StageError(
            f"sdk is {SDK!r}, and Qualcomm's SDK isn't in this environment",
            hint="drop the archive that target.toml names into vendor/, or leave sdk out: the wheel has a compiler",
        )
    if complaint := _loading_error(library):
        raise StageError(
            f"the compiler of Qualcomm's SDK doesn't load: {complaint}",
            hint="outside the wheel it needs LLVM's libc++ (libc++1 and libc++abi1), which the images don't have",
        )
    return library


def _loading_error(library: Path) -> str:
    """What the system says where it can't load a library. Tried in a process of its own: twice in one ended it."""
    code = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
    tried = subprocess.run([sys.executable, "-c", code, library], capture_output=True, text=True, check=False)
    return tried.stderr.strip().splitlines()[-1] if tried.returncode else ""


def metadata(model: onnx.ModelProto) -> dict[str, str]:
    """A model's metadata by key."""
    return {entry.key: entry.value for entry in model.metadata_props}


def stamp(path: Path, facts: Mapping[str, str]) -> None:
    """Add facts to a context model's metadata, beside what ONNX Runtime wrote there."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    for key, value in facts.items():
        model.metadata_props.add(key=f"{STAMP}{key}", value=value)
    onnx.save(model, str(path))
