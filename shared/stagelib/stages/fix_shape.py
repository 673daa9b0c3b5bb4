"""Give an ONNX model one fixed input shape, as NPU compilers need it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stagelib.api import Call, Result, Stage, StageError
from stagelib.modelinfo import ModelInfo

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, kw_only=True)
class Params:
    """The input shape, filled in from the recipe."""

    batch_size: int
    sequence_length: int


STAGE = Stage(
    summary="fix batch size and sequence length of an ONNX model",
    inputs=("model",),
    takes="onnx",
    makes="onnx",
    fixes_shape=True,
    params=Params,
    needs=("onnx", "numpy"),
    shaped=True,
    threads=1,
    memory_factor=3.5,
    memory_mb=100,
)


def run(call: Call, params: Params) -> Result:
    """Write the model with every named dimension a number; StageError where one stays free or another size is fixed."""
    import onnx

    from stagelib import onnxfiles, shapes

    call.progress(0.0, "reading the model")
    model = onnxfiles.load(call.input("model"), weights=False)
    sizes = {"batch_size": params.batch_size, "sequence_length": params.sequence_length}
    for value in (*model.graph.input, *model.graph.output):
        _fix(value, sizes)
    _check_inputs(model, (params.batch_size, params.sequence_length))
    # What the exporter knew of the inner shapes was symbolic: infer them again from the numbers.
    del model.graph.value_info[:]
    call.progress(0.3, "folding shape arithmetic")
    try:
        folded = shapes.fold_shape_arithmetic(model)
        shapes.record_shapes(model)
    except onnx.shape_inference.InferenceError as error:
        raise StageError(
            f"the model can't take inputs of [{params.batch_size}, {params.sequence_length}]: {error}"
        ) from error
    precision = ModelInfo.read(call.input("model")).precision
    info = onnxfiles.save(model, call.output, precision, call)
    free = [
        tensor.name
        for tensor in (*info.inputs, *info.outputs)
        if not all(isinstance(size, int) for size in tensor.shape)
    ]
    if free:
        raise StageError(
            f"dimensions of {', '.join(free)} are still free: the model names them otherwise than {', '.join(sizes)}"
        )
    call.progress(1.0)
    facts = {"inputs": {tensor.name: list(tensor.shape) for tensor in info.inputs}, "nodes": len(model.graph.node)}
    return Result(facts=facts | {"nodes_folded": folded})


def _fix(value: onnx.ValueInfoProto, sizes: Mapping[str, int]) -> None:
    for dimension in value.type.tensor_type.shape.dim:
        if dimension.dim_param in sizes:
            dimension.dim_value = sizes[dimension.dim_param]


def _check_inputs(model: onnx.ModelProto, shape: tuple[int, int]) -> None:
    for value in model.graph.input:
        fixed = tuple(dimension.dim_value for dimension in value.type.tensor_type.shape.dim)
        if fixed != shape:
            raise StageError(
                f"input {value.name} is already fixed to {list(fixed)}, and the recipe asks for {list(shape)}"
            )
