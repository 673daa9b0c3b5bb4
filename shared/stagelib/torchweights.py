"""The weights of a PyTorch model on their way to ONNX: from its memory to their files, and not through the graph.

PyTorch copies every weight into the model's protobuf message, and the message whole three more times on its way to the
file; and while it infers shapes, it computes with copies of all weights. Here its exporter sees no big weight where it
infers shapes, and hands the weights over where constants are folded, equal weights are one, and only the writing is
left. Those are two of its own passes, with no public way into them. Should it lack them, its graph comes with its
weights, and the result is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from stagelib import onnxfiles

if TYPE_CHECKING:
    import onnx

INFERS_SHAPES = "_jit_pass_onnx_graph_shape_type_inference"
MERGES_WEIGHTS = "_jit_pass_onnx_deduplicate_initializers"
"""Passes of PyTorch's exporter: both take the graph and its weights by name; the second, the last to, returns them."""


@contextmanager
def held_back() -> Iterator[dict[str, torch.Tensor]]:
    """Within this, `torch.onnx.export` without dynamo writes the graph as of a model without weights: there they are
    inputs, and here the tensors by name."""
    weights: dict[str, torch.Tensor] = {}
    infer_shapes, merge = (getattr(torch._C, name, None) for name in (INFERS_SHAPES, MERGES_WEIGHTS))  # noqa: SLF001
    if infer_shapes is None or merge is None:
        yield weights
        return

    def infer_from_few(graph: Any, params: Mapping[str, Any], *rest: Any) -> Any:
        return infer_shapes(graph, {name: value for name, value in params.items() if not _is_big(value)}, *rest)

    def hand_over(graph: Any, params: Mapping[str, Any], *rest: Any) -> dict[str, Any]:
        weights.update(merge(graph, params, *rest))
        return {}

    setattr(torch._C, INFERS_SHAPES, infer_from_few)  # noqa: SLF001
    setattr(torch._C, MERGES_WEIGHTS, hand_over)  # noqa: SLF001
    try:
        yield weights
    finally:
        setattr(torch._C, INFERS_SHAPES, infer_shapes)  # noqa: SLF001
        setattr(torch._C, MERGES_WEIGHTS, merge)  # noqa: SLF001


def _is_big(value: Any) -> bool:
    """Whether it is a weight that no shape follows from."""
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.nbytes >= onnxfiles.PIECE_BYTES


def give_back(model: onnx.ModelProto, weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Make initializers of the graph's inputs that are weights, in their order: the big ones are written to files of
    `folder`, where `onnxfiles.save` finds them."""
    import onnx

    values = list(model.graph.input)
    del model.graph.input[:]
    for value in values:
        if value.name not in weights:
            model.graph.input.append(value)
            continue
        # Those of folded products are transposed views.
        numbers = weights[value.name].detach().contiguous().numpy()
        kind = onnx.helper.np_dtype_to_tensor_dtype(numbers.dtype)
        tensor = model.graph.initializer.add(name=value.name, dims=numbers.shape, data_type=kind)
        onnxfiles.move_out(tensor, [numbers], folder)
