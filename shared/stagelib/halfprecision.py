"""An fp32 graph in fp16, but for the nodes that stay in fp32; and the same graph with fp16's rounding made visible."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from stagelib import onnxfiles

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
LEAST, GREATEST = np.float32(5.96e-08), np.float32(65504)
"""Of fp16's positive numbers, as ONNX Runtime's converter has them."""
# They move numbers and compute none: ONNX Runtime has them for fp16 on the CPU.
MOVES = frozenset({"Cast", "Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Shape", "Slice", "Split"})
MOVES |= {"Squeeze", "Transpose", "Unsqueeze"}
_DOWN, _UP, _OUT = "_cast_to_fp16_node", "_cast_to_fp32_node", "graph_output_cast"


def name_nodes(graph: onnx.GraphProto) -> None:
    """Give every node a name of its own: the converter knows nodes by their names."""
    seen: set[str] = set()
    for index, node in enumerate(graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}/{index}"
        seen.add(node.name)


def touching(graph: onnx.GraphProto, tensors: Collection[str]) -> list[onnx.NodeProto]:
    """The nodes that make or read one of the tensors."""
    return [node for node in graph.node if not {*node.input, *node.output}.isdisjoint(tensors)]


def convert(
    model: onnx.ModelProto,
    folders: tuple[Path, Path],
    *,
    keep_io_types: bool,
    operators: Collection[str],
    nodes: Collection[str],
) -> onnx.ModelProto:
    """The model in fp16 by ONNX Runtime's converter. Nodes of those operators and of those names stay in fp32, and
    what passes between two of them does too. Every tensor's type must stand in the model's value_info.

    `folders` are where the big weights are and where they go, a block at a time. The converter sees none of them: it
    would go over each a dozen times.
    """
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    apart = _stand_in(model.graph)
    converted: onnx.ModelProto = convert_float_to_float16(
        model,
        keep_io_types=keep_io_types,
        disable_shape_infer=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *operators],
        node_block_list=list(nodes),
    )
    _join(converted.graph)
    OnnxModel(converted).topological_sort()
    del converted.graph.value_info[:]
    for tensor in converted.graph.initializer:
        if tensor.name in apart:
            _weigh(tensor, apart[tensor.name], *folders)
        elif onnxfiles.is_apart(tensor):  # integers, DeBERTa's distances say
            onnxfiles.take_in(tensor, folders[0])
    return converted


def _stand_in(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Put one number in the place of every fp32 weight that is in a file of its own; returns them by name."""
    found = {}
    for tensor in graph.initializer:
        if tensor.data_type == FLOAT and onnxfiles.is_apart(tensor):
            found[tensor.name] = onnx.TensorProto()
            found[tensor.name].CopyFrom(tensor)
            tensor.CopyFrom(helper.make_tensor(tensor.name, FLOAT, [1], b"\0" * 4, raw=True))
    return found


def _weigh(tensor: onnx.TensorProto, weight: onnx.TensorProto, source: Path, target: Path) -> None:
    """Give a stand-in its weight: in fp16 where the converter made it that, else as it was."""
    if tensor.data_type == HALF:
        tensor.dims[:] = weight.dims
        onnxfiles.move_out(tensor, map(halved, onnxfiles.blocks(weight, source)), target)
    else:
        tensor.CopyFrom(weight)
        onnxfiles.take_in(tensor, source)


def halved(numbers: NDArray[np.float32]) -> NDArray[np.float16]:
    """Numbers in fp16, as ONNX Runtime's converter has them: none becomes zero or infinite that wasn't."""
    magnitudes = np.abs(numbers)
    if (tiny := (magnitudes > 0) & (magnitudes < LEAST)).any():
        numbers = np.where(tiny, np.copysign(LEAST, numbers), numbers)
    if (large := (magnitudes > GREATEST) & np.isfinite(magnitudes)).any():
        numbers = np.where(large, np.copysign(GREATEST, numbers), numbers)
    return numbers.astype(np.float16)


def _join(graph: onnx.GraphProto) -> None:
    """Take out what the converter puts between two nodes in fp32: down to fp16 and up again, where a number that fp16
    can't hold would be lost."""
    down = {node.output[0]: node.input[0] for node in graph.node if node.name.endswith(_DOWN)}
    up = [
        node
        for node in graph.node
        if node.input and node.input[0] in down and (node.name.endswith(_UP) or node.name.startswith(_OUT))
    ]
    border = {value.name for value in graph.output}
    renamed: dict[str, str] = {}
    # A tensor that is one of the model's outputs goes by that name for every reader.
    for node in sorted(up, key=lambda node: node.output[0] not in border):
        source, target = down[node.input[0]], node.output[0]
        renamed |= {source: target} if target in border else {target: renamed.get(source, source)}
    gone = {node.name for node in up}
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    used = {name for node in graph.node if node.name not in gone for name in node.input} | border
    kept = [
        node
        for node in graph.node
        if node.name not in gone and not (node.name.endswith(_DOWN) and node.output[0] not in used)
    ]
    del graph.node[:]
    graph.node.extend(kept)


def spell_out(model: onnx.ModelProto, types: dict[str, int]) -> None:
    """Compute every fp16 node in fp32 and round its results to fp16 by casts of our own, in place.

    A CPU without fp16 kernels does the same, but leaves the rounding out between two nodes. Sums inside a node stay
    fp32, as they are on a GPU's tensor cores.
    """
    graph = model.graph
    spelled: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type in MOVES and not node.domain:
            spelled.append(node)
        else:
            spelled.extend(_wrapped(node, types))
    del graph.node[:]
    graph.node.extend(spelled)
    del graph.value_info[:]


def _wrapped(node: onnx.NodeProto, types: dict[str, int]) -> Iterator[onnx.NodeProto]:
    for index, name in enumerate(node.input):
        if name and types[name] == HALF:
            node.input[index] = f"{node.name}/in/{index}"
            yield helper.make_node("Cast", [name], [node.input[index]], to=FLOAT)
    after = []
    for index, name in enumerate(node.output):
        if name and types[name] == HALF:
            node.output[index] = f"{node.name}/out/{index}"
            after.append(helper.make_node("Cast", [node.output[index]], [name], to=HALF))
    yield node
    yield from after
