"""`compile_trt`: TensorRT-RTX engines, built on a machine without a GPU."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stagelib.api import Call, Result, Stage, StageError
from stagelib.digests import digest_files
from stagelib.modelinfo import ModelInfo, Variant

if TYPE_CHECKING:
    from stagelib.rtxengine import Built

TURING = "7.5"
CAPABILITIES = ("8.0", "8.6", "8.9", "12.0", "12.1")
"""What TensorRT-RTX builds engines for, beside Turing."""


@dataclass(frozen=True, kw_only=True)
class Params:
    """For which GPUs, and how. There is no optimization level: TensorRT-RTX builds the same bytes at each, since it
    compiles its kernels on the device."""

    capabilities: tuple[str, ...] = ("8.6", "8.9", "12.0")
    """Compute capabilities that one engine serves: 8.6 is RTX 30, 8.9 is RTX 40, 12.0 is RTX 50."""
    turing: bool = False
    """Build another engine for compute capability 7.5 (RTX 20), which NVIDIA wants apart from the later ones."""
    tf32: bool = False
    """Let products that stayed in fp32 be computed in TF32, which has no more digits than fp16."""
    allow_fp32: bool = False
    """Build an engine that computes everything in fp32: a network is strongly typed, and no builder lowers it."""
    with_onnx: bool = False
    """Ship the ONNX model too, from which an engine for other GPUs or another release of the library can be built. It
    doubles what one ships."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.capabilities if name not in (TURING, *CAPABILITIES)]
        if unknown or not self.capabilities:
            raise ValueError(f"capabilities are some of {', '.join(CAPABILITIES)}")
        if TURING in self.capabilities:
            raise ValueError(f"capability {TURING} gets an engine of its own: set turing")


@dataclass(frozen=True, kw_only=True)
class Source:
    """What an engine is built from."""

    info: ModelInfo
    file: Mapping[str, str]
    """The ONNX file's name and digest."""
    tf32: bool


STAGE = Stage(
    summary="build TensorRT-RTX engines",
    inputs=("model",),
    takes="onnx",
    makes="tensorrt_rtx",
    params=Params,
    needs=("tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu13-libs", "numpy"),
    memory_factor=4.0,
    memory_mb=400,
)


def run(call: Call, params: Params) -> Result:
    """Write an engine and its description for each group of GPUs; StageError where the parser refuses an operator."""
    from stagelib import onnxfiles, rtxengine
    from stagelib.runtimes.base import Placed, listed

    folder = call.input("model")
    info = ModelInfo.read(folder)
    _check_source(info, params)
    groups = [_ordered(params.capabilities)] + ([(TURING,)] if params.turing else [])
    source = {"file": info.entry, "sha256": digest_files(*(folder / name for name in info.files))}
    variants: list[Variant] = []
    layers: dict[str, int] = {}
    for number, group in enumerate(groups):
        call.progress(number / len(groups), f"building for {', '.join(group)}")
        built = rtxengine.build(folder / info.entry, group, tf32=params.tf32)
        layers = dict(built.layers)
        variants.append(_write(call.output, built, group, Source(info=info, file=source, tf32=params.tf32)))
    extra = onnxfiles.ship(call, info).files if params.with_onnx else ()
    files = tuple(name for variant in variants for name in variant.files) + extra
    ModelInfo(
        format="tensorrt_rtx",
        entry=variants[0].entry,
        files=files,
        precision=info.precision,
        inputs=info.inputs,
        outputs=info.outputs,
        variants=tuple(variants),
    ).write(call.output)
    call.progress(1.0)
    facts: dict[str, Any] = {"variants": [asdict(variant) for variant in variants], "source_model": source}
    facts["placement"] = listed([Placed(where=rtxengine.WHERE, nodes=sum(layers.values()), ops=layers, compute=1.0)])
    facts["note"] = "layers of the parsed network; an engine can be inspected only where its GPU is. Not executed here"
    return Result(facts=facts | {"engine_bytes": [(call.output / one.entry).stat().st_size for one in variants]})


def _check_source(info: ModelInfo, params: Params) -> None:
    free = [tensor.name for tensor in info.inputs if not all(isinstance(size, int) for size in tensor.shape)]
    if free:
        raise StageError(f"the shape of {', '.join(free)} is free", hint="put fix_shape before compile_trt")
    if info.precision == "fp32" and not params.allow_fp32:
        raise StageError(
            "the model is fp32, and TensorRT-RTX keeps every type as it stands in the graph",
            hint="put float16 before compile_trt, or set allow_fp32 to build an fp32 engine",
        )


def _ordered(capabilities: tuple[str, ...]) -> tuple[str, ...]:
    """In numbers' order and each once: the engine's bytes depend on the order."""
    return tuple(sorted(set(capabilities), key=lambda name: tuple(int(part) for part in name.split("."))))


def _write(folder: Path, built: Built, group: tuple[str, ...], source: Source) -> Variant:
    """The engine, and beside it what it is good for."""
    from stagelib import rtxengine

    target = folder / f"model_{'_'.join(rtxengine.architecture(name).lower() for name in group)}.engine"
    target.write_bytes(built.plan)
    built_for = {
        "library": rtxengine.LIBRARY,
        "library_version": built.version,
        "capabilities": list(group),
    }
    description = built_for | {
        "good_for": "this release of the library and GPUs of these compute capabilities",
        "precision": source.info.precision,
        "tf32": source.tf32,
        "bytes": len(built.plan),
        "sha256": digest_files(target),
        "source_model": dict(source.file),
        "inputs": [asdict(tensor) for tensor in source.info.inputs],
        "outputs": [asdict(tensor) for tensor in source.info.outputs],
        "network_layers": dict(built.layers),
        "built_without_gpu": True,
    }
    sidecar = target.with_name(f"{target.name}.json")
    sidecar.write_text(json.dumps(description, indent=2) + "\n")
    return Variant(entry=target.name, files=(target.name, sidecar.name), built_for=built_for)
