"""ONNX files: read, written with their weights beside them where they are too big for one file, and described."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stagelib.api import StageError
from stagelib.modelinfo import ModelInfo, Tensor

if TYPE_CHECKING:
    import onnx

ENTRY = "model.onnx"
WEIGHTS = "model.onnx.data"
# protobuf refuses a message of 2 GiB; the graph itself needs a little of it.
ONE_FILE_BYTES = (2 << 30) - (64 << 20)


def load(folder: Path) -> onnx.ModelProto:
    """The ONNX model of an artifact, weights included; StageError where it holds another format or can't be read."""
    import onnx
    from google.protobuf.message import DecodeError

    info = ModelInfo.read(folder)
    if info.format != "onnx":
        raise StageError(
            f"this stage takes an ONNX model, and the one before it made {info.format}", hint="reorder the stages"
        )
    try:
        return onnx.load(str(folder / info.entry))
    except DecodeError as error:
        raise StageError(f"{info.entry} is not an ONNX model: {error}", kind="model") from error


def save(model: onnx.ModelProto, folder: Path, precision: str) -> ModelInfo:
    """Write the model as `model.onnx`, and `model.json` beside it."""
    import onnx

    external = not fits_one_file(model)
    onnx.save(model, str(folder / ENTRY), save_as_external_data=external, location=WEIGHTS if external else None)
    return describe(model, folder, precision)


def fits_one_file(model: onnx.ModelProto) -> bool:
    """Whether the model can be one protobuf message, as whatever serializes it (the checker, say) needs."""
    # ByteSize() itself fails on a message that is too big.
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer) <= ONE_FILE_BYTES


def describe(model: onnx.ModelProto, folder: Path, precision: str) -> ModelInfo:
    """Write `model.json` for the `model.onnx` that `folder` holds."""
    weights = (WEIGHTS,) if (folder / WEIGHTS).is_file() else ()
    info = ModelInfo(
        format="onnx",
        entry=ENTRY,
        files=(ENTRY, *weights),
        precision=precision,
        inputs=tensors(model.graph.input),
        outputs=tensors(model.graph.output),
    )
    info.write(folder)
    return info


def tensors(values: Iterable[onnx.ValueInfoProto]) -> tuple[Tensor, ...]:
    """Names, dtypes and shapes of graph inputs or outputs."""
    import onnx

    def described(value: onnx.ValueInfoProto) -> Tensor:
        kind = value.type.tensor_type
        shape = tuple(_dimension(dimension) for dimension in kind.shape.dim)
        return Tensor(name=value.name, dtype=str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)), shape=shape)

    return tuple(described(value) for value in values)


def value_info(tensor: Tensor) -> onnx.ValueInfoProto:
    """The ONNX declaration of a tensor."""
    import numpy as np
    import onnx

    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    return onnx.helper.make_tensor_value_info(tensor.name, kind, list(tensor.shape))


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, those of subgraphs (If, Loop) included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for subgraph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from nodes(subgraph)


def _dimension(dimension: Any) -> int | str:
    if dimension.HasField("dim_value"):
        return int(dimension.dim_value)
    return str(dimension.dim_param) or "?"
