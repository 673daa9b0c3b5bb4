"""OpenVINO IR: fixed to a shape, written, described."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stagelib.api import StageError
from stagelib.modelinfo import ModelInfo, Tensor

if TYPE_CHECKING:
    import openvino

ENTRY = "model.xml"
WEIGHTS = "model.bin"


def fix_shape(model: openvino.Model, batch_size: int, sequence_length: int) -> None:
    """Fix every input to [batch_size, sequence_length]; StageError where the model can't take it."""
    shape = [batch_size, sequence_length]
    try:
        model.reshape({tensor.any_name: shape for tensor in model.inputs})
    except RuntimeError as error:
        raise StageError(f"the model can't take inputs of {shape}: {error}") from error
    free = [tensor.any_name for tensor in model.outputs if tensor.get_partial_shape().is_dynamic]
    if free:
        raise StageError(f"outputs {', '.join(free)} still have a free dimension with inputs of {shape}")


def down_projections(model: openvino.Model) -> list[str]:
    """Names of the products by a constant weight that has more inputs than outputs."""
    names = []
    for operation in model.get_ordered_ops():
        if operation.get_type_name() != "MatMul" or not _is_constant(operation.input_value(1).get_node()):
            continue
        rows, columns = operation.input_value(1).get_partial_shape().to_shape()[-2:]
        transposed = operation.get_attributes()["transpose_b"]
        if rows < columns if transposed else rows > columns:
            names.append(operation.get_friendly_name())
    return names


def _is_constant(node: openvino.Node) -> bool:
    # A weight of less than 32 bits is widened before its use.
    while node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Constant")


def save(model: openvino.Model, folder: Path, precision: str) -> ModelInfo:
    """Write `model.xml` and `model.bin`, and `model.json` beside them."""
    import openvino

    # By default the writer halves every weight that is still float, and the similarity would not be quantization's.
    openvino.save_model(model, folder / ENTRY, compress_to_fp16=False)
    info = ModelInfo(
        format="openvino",
        entry=ENTRY,
        files=(ENTRY, WEIGHTS),
        precision=precision,
        inputs=tuple(_tensor(port) for port in model.inputs),
        outputs=tuple(_tensor(port) for port in model.outputs),
    )
    info.write(folder)
    return info


def _tensor(port: openvino.Output) -> Tensor:
    shape = tuple(size.get_length() if size.is_static else "?" for size in port.get_partial_shape())
    return Tensor(name=port.any_name, dtype=str(port.get_element_type().to_dtype()), shape=shape)
