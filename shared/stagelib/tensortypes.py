"""The type and shape of every tensor inside a graph, behind ONNX Runtime's own operators as well."""

from __future__ import annotations

import onnx

from stagelib.api import StageError
from stagelib.shapes import without_weights


def describe_all(model: onnx.ModelProto) -> dict[str, int]:
    """Write every tensor's type and shape into value_info; returns the element types by name.

    StageError where one can't be found out: conversions would then miss a tensor in silence.
    """
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

    inferred = SymbolicShapeInference.infer_shapes(without_weights(model), auto_merge=True).graph
    known = {value.name: value for value in (*inferred.value_info, *model.graph.output)}
    border = {value.name for value in model.graph.output}
    made = [name for node in model.graph.node for name in node.output if name]
    unknown = [name for name in made if name not in known or not known[name].type.tensor_type.elem_type]
    if unknown:
        raise StageError(f"the type of {unknown[0]} (and {len(unknown) - 1} more) in the graph can't be inferred")
    del model.graph.value_info[:]
    model.graph.value_info.extend(known[name] for name in made if name not in border)
    types = {name: known[name].type.tensor_type.elem_type for name in made}
    types |= {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    return types | {tensor.name: tensor.data_type for tensor in model.graph.initializer}
