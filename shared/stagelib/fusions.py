"""What the stage `optimize` does to a graph through ONNX Runtime, and what it finds in the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from stagelib import bigweights, graphwalk, onnxfiles
from stagelib.batches import MASK
from stagelib.graphwalk import nodes
from stagelib.modelinfo import ModelInfo
from stagelib.onnxfiles import PIECE_BYTES
from stagelib.ortrun import options_of_few_runs, session_of

if TYPE_CHECKING:
    from stagelib.stages.optimize import Params

CONTRIB = "com.microsoft"
MADE: dict[str, tuple[str, ...]] = {
    "gelu": ("Gelu", "FastGelu", "BiasGelu", "QuickGelu"),
    "layer_norm": ("LayerNormalization", "SkipLayerNormalization", "SimplifiedLayerNormalization"),
    "attention": ("Attention", "MultiHeadAttention"),
    "multi_head_attention": ("MultiHeadAttention",),
    "skip_layer_norm": ("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"),
    "embed_layer_norm": ("EmbedLayerNormalization",),
    "bias_gelu": ("BiasGelu", "FastGelu"),
    "bias_skip_layer_norm": ("SkipLayerNormalization",),
    "gelu_approximation": ("FastGelu",),
    "rotary_embeddings": ("RotaryEmbedding",),
}
"""Operators by the fusion that makes them."""
BLIND = frozenset({"MatMul", "Gemm", "Gather"})
"""Operators whose result's shape doesn't follow from the numbers of a weight, and which have nearly all weights."""
SHAPES_OF_GEMM = ("gemm_input_shape", "gemm_output_shape")
"""What names of these shapes begin with."""
BIASED_INPUTS = 5
"""A SkipLayerNormalization that took a bias in has it as its fifth input."""


def prepare(folder: Path, level: int, scratch: Path) -> onnx.ModelProto:
    """The graph of an artifact after ONNX Runtime's own optimization at that level, for the CPU; big weights that it
    left alone are in their files.

    `optimize_model` of ONNX Runtime would do the same, and imports torch for it.
    """
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    options = options_of_few_runs()
    options.graph_optimization_level = {1: levels.ORT_ENABLE_BASIC, 2: levels.ORT_ENABLE_EXTENDED}.get(
        level, levels.ORT_ENABLE_ALL
    )
    target = scratch / "prepared.onnx"
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "prepared.data")
    least = str(PIECE_BYTES)
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", least)
    # Shared constants and, above the basic level, these fusions hide the patterns that the optimizer looks for.
    hiding = ["ConstantSharing"]
    if level > 1:
        hiding += ["MatMulScaleFusion", "MatMulAddFusion", "MatmulTransposeFusion", "GemmActivationFusion"]
        hiding += ["BiasSoftmaxFusion"]
    model = str(folder / ModelInfo.read(folder).entry)
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], disabled_optimizers=set(hiding))
    prepared = onnx.load(str(target), load_external_data=False)
    _recognize(prepared.graph, scratch, onnxfiles.load(folder, weights=False).graph, folder)
    _free_names(prepared.graph)
    return prepared


def _free_names(graph: onnx.GraphProto) -> None:
    """Rename the shapes that ONNX Runtime's MatMulAddFusion made: it takes the same names when the result is loaded,
    whether or not they are taken, and then fails where it finds one product more."""
    made = [tensor for tensor in graph.initializer if tensor.name.startswith(SHAPES_OF_GEMM)]
    taken = {tensor.name: tensor.name for tensor in made}
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in taken:
                # Named by the first output that it goes into: that is no other's name.
                taken[name] = f"{node.output[0]}/{name}" if taken[name] == name else taken[name]
                node.input[index] = taken[name]
    for tensor in made:
        tensor.name = taken[tensor.name]


def _recognize(graph: onnx.GraphProto, scratch: Path, source: onnx.GraphProto, folder: Path) -> None:
    """Have a graph that ONNX Runtime wrote refer to the files of the weights it was made from; others are read in."""
    known = {tensor.name: tensor for tensor in source.initializer if onnxfiles.is_apart(tensor)}
    for tensor in graph.initializer:
        if not onnxfiles.is_apart(tensor):
            continue
        written, before = bigweights.find(tensor, scratch).mapped(), known.get(tensor.name)
        if before is not None and _same(written, onnxfiles.array(before, folder)):
            tensor.CopyFrom(before)
        else:
            tensor.CopyFrom(numpy_helper.from_array(written, tensor.name))
    # Folding makes weights of branches as well; those of a branch are never files of their own.
    for tensor in graphwalk.inner_initializers(graph):
        if onnxfiles.is_apart(tensor):
            tensor.CopyFrom(numpy_helper.from_array(bigweights.find(tensor, scratch).mapped(), tensor.name))


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two arrays are equal in every bit."""
    alike = one.dtype == other.dtype and one.shape == other.shape
    return alike and np.array_equal(one.view(np.uint8), other.view(np.uint8))


def fuse(model: onnx.ModelProto, params: Params, folder: Path) -> onnx.ModelProto:
    """The graph with the fusions that `params` asks for; `folder` has the weights that were left in files."""
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_by_fusion

    options = FusionOptions(params.model_type)
    for name in MADE.keys() - {"multi_head_attention"}:
        setattr(options, f"enable_{name}", getattr(params, name))
    options.enable_qordered_matmul = False
    options.enable_shape_inference = params.shape_inference
    options.use_multi_head_attention = params.multi_head_attention
    options.use_raw_attention_mask(params.raw_attention_mask)
    apart = _take_out_weights(model.graph, _take_in_weights(model.graph, params, folder))
    fused: onnx.ModelProto = optimize_by_fusion(
        model, params.model_type, params.num_heads, params.hidden_size, options
    ).model
    for tensor in fused.graph.initializer:
        if tensor.name in apart:
            tensor.CopyFrom(apart[tensor.name])
    return fused


def _take_in_weights(graph: onnx.GraphProto, params: Params, folder: Path) -> set[str]:
    """Read the weights whose numbers are looked at, and return their names: those that the fusions join or move, and
    what shape inference may compute with."""
    if params.embed_layer_norm or params.rotary_embeddings:
        read = {tensor.name for tensor in graph.initializer}
    else:
        read = {name for node in nodes(graph) if node.op_type not in BLIND for name in node.input}
        read |= _of_heads(graph) if params.attention else set()
    for tensor in graph.initializer:
        if tensor.name in read and onnxfiles.is_apart(tensor):
            onnxfiles.take_in(tensor, folder)
    return read


def _of_heads(graph: onnx.GraphProto) -> set[str]:
    """Names of what goes into a product, with or without a bias, whose result is cut into heads: Q, K and V."""
    makers = {name: node for node in graph.node for name in node.output}
    cut = [makers[node.input[0]] for node in graph.node if node.op_type == "Reshape" and node.input[0] in makers]
    biased = [makers[name] for node in cut if node.op_type == "Add" for name in node.input if name in makers]
    return {name for node in (*cut, *biased) if node.op_type in {"MatMul", "Gemm"} for name in node.input}


def _take_out_weights(graph: onnx.GraphProto, kept: Collection[str]) -> dict[str, onnx.TensorProto]:
    """Big weights by name, or where they are, but for those that are kept; the graph has their names and shapes. The
    optimizer infers shapes node by node, several times over, and copies whatever weights it finds each time."""
    taken = {}
    for tensor in graph.initializer:
        if tensor.name not in kept and (onnxfiles.is_apart(tensor) or len(tensor.raw_data) >= PIECE_BYTES):
            taken[tensor.name] = onnx.TensorProto()
            taken[tensor.name].CopyFrom(tensor)
            for field in ("raw_data", "external_data", "data_location"):
                tensor.ClearField(field)
    return taken


def operators(graph: onnx.GraphProto) -> dict[str, int]:
    """Nodes by operator, the most frequent first; operators outside ONNX carry their domain."""
    names = (node.op_type if not node.domain else f"{node.domain}.{node.op_type}" for node in nodes(graph))
    return dict(Counter(names).most_common())


def count(graph: onnx.GraphProto, fusion: str) -> int:
    """Operators in the graph that this fusion makes, whoever made them."""
    found = [node for node in nodes(graph) if node.op_type in MADE[fusion]]
    if fusion == "bias_skip_layer_norm":
        found = [node for node in found if len(node.input) == BIASED_INPUTS and node.input[-1]]
    return len(found)


def attention_facts(graph: onnx.GraphProto) -> dict[str, Any]:
    """Heads of the fused attention as the graph has them, and the number that stands for minus infinity in it."""
    found = [node for node in nodes(graph) if node.domain == CONTRIB and node.op_type in MADE["attention"]]
    if not found:
        return {}
    values = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in found[0].attribute}
    return {name: values[name] for name in ("num_heads", "mask_filter_value") if name in values}


def tidy_opsets(model: onnx.ModelProto) -> None:
    """Import the domains that the nodes use, and no other: ONNX Runtime adds all it knows, its optimizer none."""
    known = {entry.domain: entry.version for entry in model.opset_import}
    used = {node.domain for node in nodes(model.graph)} | {""}
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(name, known.get(name, 1)) for name in sorted(used))


Feed = dict[str, NDArray[np.int64]]


def feeds(graph: onnx.GraphProto, *, any_padding: bool) -> list[Feed]:
    """Seeded token ids in the model's shape or, where that is free, of 16 tokens: rows padded on the right and, with
    `any_padding`, rows padded on the left."""
    generator = np.random.default_rng(0)
    shape = [dimension.dim_value for dimension in graph.input[0].type.tensor_type.shape.dim]
    batch, length = shape[0] or 1, shape[1] or 16
    mask = np.ones((batch, length), np.int64)
    mask[:, length // 2 :] = 0
    vocabulary = _vocabulary(graph)
    made = []
    for padded in (mask, mask[:, ::-1].copy()) if any_padding else (mask,):
        ids = generator.integers(0, vocabulary, (batch, length), dtype=np.int64)
        known = {"input_ids": ids, MASK: padded}
        made.append({value.name: known.get(value.name, np.zeros_like(ids)) for value in graph.input})
    return made


def difference(
    models: tuple[onnx.ModelProto, onnx.ModelProto], folders: Sequence[Path], given: Sequence[Feed]
) -> tuple[float, float]:
    """Largest absolute difference of two models' first outputs, on the CPU, at the positions that hold text, and the
    largest magnitude of the first one's there; what was left of their weights in files is in the folders."""
    results = [_first_outputs(model, folders, given) for model in models]
    gaps = [np.abs(left - right) for left, right in zip(*results, strict=True)]
    texts = [feed[MASK] > 0 if MASK in feed and gap.ndim > 2 else ... for feed, gap in zip(given, gaps, strict=True)]  # noqa: PLR2004
    # numpy's maximum, which is NaN where one number is; Python's depends on the order.
    return _largest(gaps, texts), _largest([np.abs(one) for one in results[0]], texts)


def _largest(arrays: Sequence[NDArray[Any]], places: Sequence[Any]) -> float:
    return float(np.max([array[place].max() for array, place in zip(arrays, places, strict=True)]))


def _first_outputs(model: onnx.ModelProto, folders: Sequence[Path], given: Sequence[Feed]) -> list[NDArray[np.float64]]:
    import onnxruntime

    options = options_of_few_runs()
    # Otherwise ONNX Runtime fuses the plain graph itself, and one fusion is compared with another.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = session_of(model, folders, options)
    first = session.get_outputs()[0].name
    return [session.run([first], feed)[0].astype(np.float64) for feed in given]


def _vocabulary(graph: onnx.GraphProto) -> int:
    """Rows of the table that the token ids choose from; 2 where the graph hides it."""
    rows = {tensor.name: int(tensor.dims[0]) for tensor in graph.initializer if tensor.dims}
    tables = (name for node in graph.node if "input_ids" in node.input for name in node.input if name in rows)
    return min((rows[name] for name in tables), default=2)
