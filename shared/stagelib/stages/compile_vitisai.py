"""Compile a model for AMD's NPU by AMD's own provider, which needs no NPU for it. Not verified here: no wheel."""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stagelib.api import Call, Result, Stage, StageError
from stagelib.modelinfo import ModelInfo, Variant

if TYPE_CHECKING:
    import onnx

    from stagelib.runtimes.base import Placed

COMPILED = "model_ctx.onnx"
FLOAT = "fp32"
UNVERIFIED = "written from AMD's documentation; never run with AMD's provider here"


@dataclass(frozen=True, kw_only=True)
class Params:
    """What the provider is told, in its own words."""

    optimize_level: Literal[1, 2, 3] = 1
    """Of a float model, which the provider turns into BF16."""
    data_storage: Literal["auto", "vectorized", "unvectorized"] = "unvectorized"
    """Layout of a float model's data; AMD's documents advise `unvectorized` for transformers."""
    integer_target: Literal["X1", "X2"] = "X2"
    """Backend for a quantized model: X2 serves Strix, Krackan and newer; X1, the older, Phoenix and Hawk Point too."""


STAGE = Stage(
    summary="compile for AMD's NPU with the Vitis AI provider (AMD's archive; not verified here)",
    inputs=("model",),
    takes="onnx",
    makes="vitisai",
    params=Params,
    needs=("onnxruntime-vitisai", "onnx", "numpy"),
    archive="onnxruntime-vitisai",
)


def run(call: Call, params: Params) -> Result:
    """Write `model_ctx.onnx`, an EPContext model; StageError where the provider isn't there or took no node."""
    import onnx

    from stagelib import onnxfiles, vitisai
    from stagelib.runtimes.base import listed

    info = ModelInfo.read(call.input("model"))
    runtime = vitisai.providing_runtime()
    call.progress(0.0, "compiling: minutes, and gigabytes of memory")
    source = onnxfiles.load(call.input("model"))
    target = call.output / COMPILED
    options = {**vitisai.cache_options(call.scratch), **_chosen(call.output, params, info.precision)}
    _compile(runtime, onnxfiles.one_file(call.input("model"), call.scratch), target, options)
    if not target.is_file():
        raise StageError("the provider wrote no compiled model", hint="the log holds what it said")
    call.progress(0.9, "reading the compiled model")
    left = onnx.load(str(target), load_external_data=False)
    placement = place(source, left, vitisai.read_report(call.scratch))
    built_for: dict[str, Any] = {"precision": "bf16" if info.precision == FLOAT else info.precision}
    built_for |= {"target": "VAIML" if info.precision == FLOAT else params.integer_target, **vitisai.installed()}
    files = (COMPILED, *_beside(call.output))
    variant = Variant(entry=COMPILED, files=files, built_for=built_for)
    dataclasses.replace(
        info,
        format="vitisai",
        entry=COMPILED,
        files=files,
        precision=str(built_for["precision"]),
        variants=(variant,),
    ).write(call.output)
    facts = {
        "placement": listed(placement),
        "variants": [dataclasses.asdict(variant)],
        "settings": vitisai.described(options),
        "verified": UNVERIFIED,
    }
    return Result(facts=facts)


def _chosen(folder: Path, params: Params, precision: str) -> dict[str, str]:
    """Options for a quantized model; or for a float one, which becomes BF16, by a file that loading it needs too."""
    from stagelib import vitisai

    if precision != FLOAT:
        return {"target": params.integer_target}
    config = folder / vitisai.CONFIG
    config.write_text(json.dumps(vitisai.configuration(params.optimize_level, params.data_storage), indent=2) + "\n")
    return {"config_file": str(config)}


def _compile(runtime: Any, source: Path, target: Path, options: dict[str, str]) -> None:
    """Make a session, and with it the compiled model: that is how AMD's provider compiles."""
    from stagelib import vitisai
    from stagelib.ortrun import ort_failures

    os.environ[vitisai.REPORT_VARIABLE] = vitisai.REPORT
    session = runtime.SessionOptions()
    for name, value in {
        "ep.context_enable": "1",
        "ep.context_file_path": str(target),
        # One file: what lies beside it would be found by a path, and the path changes when it ships.
        "ep.context_embed_mode": "1",
    }.items():
        session.add_session_config_entry(name, value)
    try:
        runtime.InferenceSession(str(source), session, providers=[vitisai.PROVIDER], provider_options=[options])
    except ort_failures() as error:
        raise StageError(f"the Vitis AI provider can't compile {source.name}: {error}") from error


def place(source: onnx.ModelProto, compiled: onnx.ModelProto, reported: tuple[Placed, ...]) -> tuple[Placed, ...]:
    """Where the source's nodes are: inside the compiled model's EPContext nodes, or left beside them for the CPU.

    What the provider took and runs on the CPU itself is known from its report alone. StageError where it took nothing.
    """
    from stagelib import arithmetic, ortrun, vitisai
    from stagelib.runtimes.base import Placed

    contexts = [node for node in compiled.graph.node if node.op_type == "EPContext"]
    if not contexts:
        raise StageError(
            "the Vitis AI provider took no node: the whole graph would run on the CPU, in silence",
            hint="the log holds what it said of the model",
        )
    left = [node for node in compiled.graph.node if node.op_type != "EPContext"]
    share = arithmetic.share_of(
        [name for node in left for name in node.output], arithmetic.multiplications(source.graph)
    )
    taken = len(source.graph.node) - len(left)
    ops = Counter(node.op_type for node in left)
    inside = vitisai.inside(reported, ops)
    parts = [
        Placed(
            where=vitisai.PROVIDER,
            nodes=taken - (inside.nodes if inside else 0),
            # Which products the provider runs on the CPU itself, nobody says: then no share of the arithmetic is known.
            compute=None if share is None or inside else 1.0 - share,
        )
    ]
    if left:
        parts.append(Placed(where=ortrun.CPU, nodes=len(left), ops=dict(ops), compute=None if inside else share))
    if inside:
        parts.append(inside)
    return tuple(parts)


def _beside(folder: Path) -> list[str]:
    """Files beside the compiled model that it is loaded with."""
    return sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != COMPILED)
