"""Write into an ONNX model what Olive writes for Vitis AI: whose model it is, and what it is quantized to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stagelib.api import Call, Result, Stage, StageError
from stagelib.modelinfo import ModelInfo

CONFIG = "config.json"
# Olive's names of the types, which are those of ONNX Runtime's quantizer.
NAMES = {"int4": "Int4", "uint4": "UInt4", "int8": "QInt8", "uint8": "QUInt8", "int16": "QInt16", "uint16": "QUInt16"}


@dataclass(frozen=True, kw_only=True)
class Params:
    """What to write beside the types, which are read from the graph."""

    config_keys: tuple[str, ...] = ("architectures", "model_type")
    """Keys of the model's config.json; one that it lacks is left out, and the result says so."""
    quant_type: str = ""
    """How it was quantized, in Olive's words: the name of its pass. Empty writes nothing."""


STAGE = Stage(
    summary="write the metadata that Olive writes for Vitis AI",
    inputs=("model", "source"),
    takes="onnx",
    makes="onnx",
    params=Params,
    needs=("onnx",),
    threads=1,
    memory_factor=3.5,
    memory_mb=100,
)


def run(call: Call, params: Params) -> Result:
    """Write the model with `metadata_props`.

    StageError without a config.json, for a type Olive has no name for, or where there is nothing to write.
    """
    from stagelib import onnxfiles, quantized

    call.progress(0.0, "reading the model")
    model = onnxfiles.load(call.input("model"), weights=False)
    activations, weights = quantized.quantized_types(model.graph)
    config = read_config(call.input("source"))
    written = {
        **from_config(config, params.config_keys),
        **named("activation_dtype", activations),
        **named("weight_dtype", weights),
        **({"quant_type": params.quant_type} if params.quant_type else {}),
    }
    if not written:
        raise StageError(f"there is nothing to write: {CONFIG} has none of {', '.join(params.config_keys)}")
    kept = [entry for entry in model.metadata_props if entry.key not in written]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    for key, value in written.items():
        model.metadata_props.add(key=key, value=value)
    call.progress(0.5, "writing the model")
    onnxfiles.save(model, call.output, ModelInfo.read(call.input("model")).precision, call)
    call.progress(1.0)
    facts = {
        "metadata": written,
        "not_in_config": [key for key in params.config_keys if key not in written],
        "activation_tensors": dict(activations),
        "weight_values": dict(weights),
    }
    return Result(facts=facts)


def named(key: str, types: Counter[str]) -> dict[str, str]:
    """The type that most have, in Olive's words; StageError where it has none. Nothing for a float graph."""
    if not types:
        return {}
    kind = types.most_common(1)[0][0]
    if kind not in NAMES:
        raise StageError(f"Olive has no name for {kind}, which is {key}", hint=f"it knows {', '.join(NAMES)}")
    return {key: NAMES[kind]}


def read_config(source: Path) -> Mapping[str, Any]:
    """The model's config.json; StageError where there is none."""
    try:
        config = json.loads((source / CONFIG).read_text())
    except FileNotFoundError:
        raise StageError(f"the model has no {CONFIG}", kind="model") from None
    except ValueError as error:
        raise StageError(f"the model's {CONFIG} is not JSON: {error}", kind="model") from None
    if not isinstance(config, dict):
        raise StageError(f"the model's {CONFIG} is no JSON object", kind="model")
    return config


def from_config(config: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, str]:
    """Values as Olive writes them: a list joined by commas, anything else as text."""
    found = {key: config[key] for key in keys if config.get(key) is not None}
    return {key: ", ".join(map(str, value)) if isinstance(value, list) else str(value) for key, value in found.items()}
