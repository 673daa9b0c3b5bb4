"""`optimize`: ONNX Runtime's transformer optimizer, which replaces what it knows of a layer by one fused operator."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from stagelib.api import Call, Result, Stage, StageError
from stagelib.modelinfo import ModelInfo

if TYPE_CHECKING:
    import onnx

    from stagelib.modelinfo import Tensor

# In fp32 the fused kernels differ from the parts by rounding alone; a wrong fusion differs in the first digit.
TOLERANCE = 1e-3
HINT = "set it to false, or opt_level to 0: ONNX Runtime's own fusions can hide what the optimizer looks for"
UNKNOWN = "the optimizer knows how BERT and its relatives have it: set it to false, and leave out what builds on it"
HINTS = {
    "embed_layer_norm": "it is found only where the shape is free: put fix_shape after this stage, or set it to false",
    "rotary_embeddings": "BERT has none: set it to false",
}


@dataclass(frozen=True, kw_only=True)
class Params:
    """What to fuse. Operators beyond Gelu and LayerNormalization are ONNX Runtime's own: other compilers may not read
    them."""

    model_type: Literal["bert"] = "bert"
    """The optimizer's name of the architecture: BERT and its relatives."""
    opt_level: Literal[0, 1, 2, 99] = 1
    """ONNX Runtime's own graph optimization that goes before: none, basic, extended or all."""
    use_gpu: bool = False
    """Whether the result is meant for a GPU: levels above 1 choose operators of the CPU, and are refused then."""
    num_heads: int = 0
    """Attention heads and hidden size; 0 reads them from the graph. Others than the graph's are refused."""
    hidden_size: int = 0
    gelu: bool = True
    layer_norm: bool = True
    attention: bool = False
    multi_head_attention: bool = False
    """Fuse attention into MultiHeadAttention, which leaves the three products before it, instead of Attention."""
    raw_attention_mask: bool = True
    """Give fused attention the mask as it is. Otherwise it gets the number of tokens, which is wrong where padding
    stands on the left."""
    skip_layer_norm: bool = False
    embed_layer_norm: bool = False
    bias_gelu: bool = False
    bias_skip_layer_norm: bool = False
    gelu_approximation: bool = False
    """Turn Gelu into FastGelu, its approximation by tanh."""
    rotary_embeddings: bool = False
    shape_inference: bool = True

    def __post_init__(self) -> None:
        if (self.num_heads == 0) != (self.hidden_size == 0) or min(self.num_heads, self.hidden_size) < 0:
            raise ValueError("num_heads and hidden_size are given together, as positive numbers, or not at all")
        if self.num_heads and self.hidden_size % self.num_heads:
            raise ValueError("hidden_size must be a multiple of num_heads")
        if self.use_gpu and self.opt_level > 1:
            raise ValueError("opt_level above 1 makes operators for the CPU: with use_gpu it is 0 or 1")
        if self.multi_head_attention and not self.attention:
            raise ValueError("multi_head_attention says how attention is fused: set attention as well")


STAGE = Stage(
    summary="fuse operators with ONNX Runtime's transformer optimizer",
    inputs=("model",),
    takes="onnx",
    makes="onnx",
    params=Params,
    needs=("onnxruntime", "onnx", "numpy", "sympy"),
    threads=1,
    memory_factor=5.0,
    memory_mb=300,
)


def run(call: Call, params: Params) -> Result:
    """Write the fused model; StageError where a fusion that was asked for found nothing, or changed the results."""
    from stagelib import fusions, onnxfiles

    folder = call.input("model")
    before = ModelInfo.read(folder)
    call.progress(0.0, "reading the model")
    source = onnxfiles.load(folder, weights=False)
    feeds = fusions.feeds(source.graph, any_padding=params.raw_attention_mask)
    call.progress(0.1, "fusing")
    info, facts = _write_fused(call, params, before)
    call.progress(0.6, "comparing the results with those of the model it was given")
    written = onnxfiles.read(call.output / info.entry, weights=False)
    difference, _ = fusions.difference((source, written), [call.output, folder], feeds)
    if not difference <= (TOLERANCE if before.precision == "fp32" else math.inf):
        raise StageError(f"the fused graph's results differ from the model's by {difference:.2e}")
    call.progress(1.0)
    return Result(facts={"operators_before": fusions.operators(source.graph), **facts, "max_abs_diff": difference})


def _write_fused(call: Call, params: Params, before: ModelInfo) -> tuple[ModelInfo, dict[str, object]]:
    """Fuse the model and write it; returns its description and what was found in it. Its weights are freed then."""
    from stagelib import fusions, onnxfiles

    folder = call.input("model")
    if params.opt_level:
        model = fusions.prepare(folder, params.opt_level, call.scratch)
    else:
        model = onnxfiles.load(folder, weights=False)
    fused = fusions.fuse(model, params, folder)
    made = _checked(fused, params)
    fusions.tidy_opsets(fused)
    info = onnxfiles.save(fused, call.output, before.precision, call)
    _check(before, info, fused)
    found = {"operators": fusions.operators(fused.graph), "fused": made, **fusions.attention_facts(fused.graph)}
    return info, found


def _checked(fused: onnx.ModelProto, params: Params) -> dict[str, int]:
    """Fused operators by the fusion that was asked for; StageError where one found nothing."""
    from stagelib import fusions

    asked = [name for name in fusions.MADE if getattr(params, name)]
    made = {name: fusions.count(fused.graph, name) for name in asked}
    for name in asked:
        # These two are on by default, and a model may have only one of them.
        if not made[name] and name not in {"gelu", "layer_norm"}:
            raise StageError(
                f"the optimizer found no {name} to fuse in this graph",
                hint=HINTS.get(name, HINT if params.opt_level else UNKNOWN),
            )
    if asked and not any(made.values()):
        raise StageError(
            f"the optimizer found nothing to fuse of {', '.join(asked)}", hint="it knows transformer encoders only"
        )
    heads = fusions.attention_facts(fused.graph).get("num_heads")
    if params.num_heads and heads not in {None, params.num_heads}:
        raise StageError(f"the graph has {heads} attention heads, and the recipe says {params.num_heads}")
    return made


def _check(before: ModelInfo, after: ModelInfo, fused: onnx.ModelProto) -> None:
    """StageError where the graph is no valid ONNX, or names, dtypes or shapes at its border have changed."""
    import onnx

    from stagelib import shapes

    def seen(side: tuple[Tensor, ...]) -> list[tuple[object, ...]]:
        return [dataclasses.astuple(tensor) for tensor in side]

    if (seen(before.inputs), seen(before.outputs)) != (seen(after.inputs), seen(after.outputs)):
        raise StageError("the optimizer changed the model's inputs or outputs")
    try:
        shapes.check(fused)
    except onnx.checker.ValidationError as error:
        hint = "LayerNormalization is in ONNX from opset 17 on"
        raise StageError(f"the fused graph is not valid ONNX: {error}", hint=hint) from error
