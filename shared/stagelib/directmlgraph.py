"""What DirectML's kernels in ONNX Runtime can run of a graph, from ONNX Runtime's own list of kernels and source.

Read in docs/OperatorKernels.md and in the provider's MultiHeadAttention kernel. Not verified here: no DirectML is.
"""

from __future__ import annotations

from collections import Counter

import onnx
from onnx import helper

from stagelib.api import StageError
from stagelib.graphwalk import nodes
from stagelib.packedqkv import CONTRIB, is_attention, number_of_heads

# The operators that an encoder holds after export, fusion and half precision, and that DirectML has in fp16 and fp32.
# ONNX's own Gelu (opset 20) is not among them, and the CPU has it: it would go there, in silence and in every layer.
_ONNX = (
    "Add And Cast Clip Concat Constant ConstantOfShape Div Equal Erf Exp Expand Gather Gemm Greater Identity "
    "LayerNormalization Less MatMul Max Min Mul Neg Not Or Pow Range Reciprocal ReduceMax ReduceMean ReduceSum Relu "
    "Reshape Sigmoid Slice Softmax Split Sqrt Squeeze Sub Sum Tanh Transpose Unsqueeze Where"
)
_CONTRIB = (
    "Attention BiasGelu EmbedLayerNormalization FastGelu FusedMatMul Gelu MultiHeadAttention QuickGelu "
    "SkipLayerNormalization"
)
KERNELS = {"": frozenset(_ONNX.split()), CONTRIB: frozenset(_CONTRIB.split())}
# It has this one for floating point alone.
_RUNNING_SUM = "CumSum"
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
_INTEGERS = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
_MASK, _ATTENTION_BIAS = 4, 5


def rename_gelus(model: onnx.ModelProto) -> int:
    """Turn ONNX's Gelu into ONNX Runtime's own of the same formula, which DirectML has; returns how many."""
    renamed = 0
    for node in nodes(model.graph):
        if node.op_type != "Gelu" or node.domain:
            continue
        tanh = any(one.name == "approximate" and one.s == b"tanh" for one in node.attribute)
        del node.attribute[:]
        node.op_type, node.domain = "FastGelu" if tanh else "Gelu", CONTRIB
        renamed += 1
    if renamed and CONTRIB not in {entry.domain for entry in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(CONTRIB, 1))
    return renamed


def sum_in_float(model: onnx.ModelProto) -> int:
    """Let running sums of whole numbers, by which RoBERTa and its like number their tokens, compute in float32, which
    DirectML has a kernel for; returns how many. Exact while the sums stay below 2 to the 24th."""
    known = _types(model)
    made: list[onnx.NodeProto] = []
    changed = 0
    for node in model.graph.node:
        kind = known[node.input[0]].elem_type if node.op_type == _RUNNING_SUM and node.input[0] in known else None
        if kind not in _INTEGERS:
            made.append(node)
            continue
        given, summed = f"{node.output[0]}_float", f"{node.output[0]}_sum"
        cast = helper.make_node("Cast", [node.input[0]], [given], name=given, to=onnx.TensorProto.FLOAT)
        back = helper.make_node("Cast", [summed], [node.output[0]], name=summed, to=kind)
        node.input[0], node.output[0] = given, summed
        made += [cast, node, back]
        changed += 1
    del model.graph.node[:]
    model.graph.node.extend(made)
    return changed


def without_kernel(model: onnx.ModelProto) -> dict[str, int]:
    """Operators that DirectML has no kernel for, with the number of their nodes."""
    known = _types(model)

    def has(node: onnx.NodeProto) -> bool:
        if node.op_type == _RUNNING_SUM and not node.domain:
            return node.input[0] in known and known[node.input[0]].elem_type in _FLOATS
        return node.op_type in KERNELS.get(node.domain, frozenset())

    names = (f"{node.domain}.{node.op_type}".lstrip(".") for node in nodes(model.graph) if not has(node))
    return dict(Counter(names))


def check_masks(model: onnx.ModelProto) -> str:
    """Which mask the packed attentions take: `key_padding_mask`, `attention_bias` or `none`.

    DirectML's kernel takes a key padding mask of int32 [batch, keys], and an attention bias of [batch, heads, queries,
    keys] that it doesn't broadcast. StageError for any other form, and where attentions differ.
    """
    known = _types(model)
    forms = set()
    for node in model.graph.node:
        if not is_attention(node):
            continue
        given = [*node.input, *[""] * (_ATTENTION_BIAS + 1 - len(node.input))]
        mask, bias = given[_MASK], given[_ATTENTION_BIAS]
        if mask:
            _check_mask(node, known.get(mask))
        if bias:
            _check_bias(node, known.get(bias))
        forms.add(" and ".join(name for name, of in (("key_padding_mask", mask), ("attention_bias", bias)) if of))
    if len(forms) != 1:
        raise StageError(f"the attentions take masks of different forms: {', '.join(sorted(forms)) or 'none at all'}")
    return forms.pop() or "none"


def _check_mask(node: onnx.NodeProto, kind: onnx.TypeProto.Tensor | None) -> None:
    sizes = _sizes(kind)
    if kind is None or kind.elem_type != onnx.TensorProto.INT32 or len(sizes) != 2:  # noqa: PLR2004  # [batch, keys]
        raise StageError(
            f"the key padding mask of {node.name} is {sizes or 'of unknown shape'}, not int32 [batch, keys]",
            hint="set raw_attention_mask of optimize to true",
        )


def _check_bias(node: onnx.NodeProto, kind: onnx.TypeProto.Tensor | None) -> None:
    sizes = _sizes(kind)
    heads = number_of_heads(node)
    if len(sizes) != 4 or sizes[1] != heads or not all(sizes):  # noqa: PLR2004  # [batch, heads, queries, keys]
        raise StageError(
            f"the attention bias of {node.name} is {sizes or 'of unknown shape'}, and DirectML doesn't broadcast it to "
            f"[batch, {heads}, queries, keys]"
        )


def _types(model: onnx.ModelProto) -> dict[str, onnx.TypeProto.Tensor]:
    """What is known of every value by its name, but of those within subgraphs."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    known = {
        tensor.name: helper.make_tensor_type_proto(tensor.data_type, tensor.dims) for tensor in inferred.initializer
    }
    known |= {value.name: value.type for value in (*inferred.value_info, *inferred.input, *inferred.output)}
    return {name: kind.tensor_type for name, kind in known.items()}


def _sizes(kind: onnx.TypeProto.Tensor | None) -> list[int]:
    return [dimension.dim_value for dimension in kind.shape.dim] if kind is not None else []
