"""`float16`: an fp32 graph in 16-bit floats, after a look at whether its numbers fit into them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stagelib.api import Call, Result, Stage, StageError
from stagelib.modelinfo import ModelInfo

if TYPE_CHECKING:
    import onnx

    from stagelib.ranges import Feed, Outputs, Range


@dataclass(frozen=True, kw_only=True)
class Params:
    """What stays in fp32, and how closely the numbers are looked at."""

    keep_io_types: bool = False
    """Leave the model's inputs and outputs in fp32."""
    keep_float32: tuple[str, ...] = ()
    """Operators that stay in fp32, as LayerNormalization or Softmax. What passes between two of them does too."""
    texts: int = 4
    """Calibration texts on which every tensor's largest magnitude is measured."""
    headroom: float = 2.0
    """Tensors that come within this factor of fp16's largest number stay in fp32: a few texts don't show the worst."""

    def __post_init__(self) -> None:
        if self.texts < 1:
            raise ValueError("texts must be at least 1")
        if not self.headroom >= 1:
            raise ValueError("headroom is a factor of 1 or more")


STAGE = Stage(
    summary="convert to fp16, keeping in fp32 what doesn't fit",
    inputs=("model", "batches"),
    takes="onnx",
    makes="onnx",
    rounds=True,
    params=Params,
    needs=("onnxruntime", "onnx", "numpy", "sympy"),
    memory_factor=4.0,
    memory_mb=400,
)
SHOWN = 5


def run(call: Call, params: Params) -> Result:
    """Write the fp16 model and `ranges.json`; StageError where a number can't be had in fp16 and must be."""
    import onnx

    from stagelib import halfprecision, onnxfiles, ranges, tensortypes

    call.progress(0.0, "reading the model")
    before = ModelInfo.read(call.input("model"))
    source = call.input("model")
    model = onnxfiles.load(source, weights=False)
    constants = ranges.weights(model, source)
    _check_source(model, before, params, constants)
    halfprecision.name_nodes(model.graph)
    types = tensortypes.describe_all(model)
    call.progress(0.1, "measuring every tensor's range in fp32")
    feeds, masks, used = _feeds(call, model, params.texts)
    measured, reference = ranges.measure(model, source, types, feeds)
    ranges.write(call.output, measured, constants, used)
    spared = _spared(model, [*measured, *constants], params)
    call.progress(0.5, "converting")
    fragile = [node.name for node in spared]
    converted = halfprecision.convert(
        model,
        (source, call.output),
        keep_io_types=params.keep_io_types,
        operators=params.keep_float32,
        nodes=fragile,
    )
    precision = "fp16+fp32" if fragile or params.keep_float32 else "fp16"
    info = onnxfiles.save(converted, call.output, precision)
    onnx.checker.check_model(str(call.output / info.entry))
    facts = _range_facts([*measured, *constants]) | _placed(converted, spared, params)
    call.progress(0.7, "computing with fp16's rounding")
    rounding = _rounding(call, converted, feeds, (reference, masks))
    call.progress(1.0)
    return Result(facts={"texts": used, "headroom": params.headroom} | facts | {"rounding": rounding})


def _check_source(model: onnx.ModelProto, info: ModelInfo, params: Params, constants: Sequence[Range]) -> None:
    from stagelib import ranges

    if info.precision != "fp32":
        raise StageError(
            f"float16 takes an fp32 model, and the one before it made {info.precision}", hint="reorder the stages"
        )
    absent = set(params.keep_float32) - {node.op_type for node in model.graph.node}
    if absent:
        raise StageError(f"keep_float32 names {', '.join(sorted(absent))}, which the model doesn't have")
    ranges.refuse_mask_constants(model, constants)


def _feeds(call: Call, model: onnx.ModelProto, texts: int) -> tuple[list[Feed], list[Any], int]:
    """The calibration's first texts in full batches, the attention masks of each, and how many texts these are."""
    from stagelib import batches

    rows = batches.read_rows(call.input("batches"), batches.CALIBRATION)
    size = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1
    names = [value.name for value in model.graph.input]
    taken = [batches.take(rows, start, size) for start in range(0, min(texts, batches.count(rows)), size)]
    # A batch that the texts don't fill begins again with the first ones.
    used = min(len(taken) * size, batches.count(rows))
    return [batches.feed(one, names) for one in taken], [one[batches.MASK] for one in taken], used


def _spared(model: onnx.ModelProto, found: Sequence[Range], params: Params) -> list[onnx.NodeProto]:
    """The nodes that stay in fp32 because a number they make or read doesn't fit; StageError for an output."""
    from stagelib import halfprecision, ranges

    limit = ranges.LARGEST / params.headroom
    large = {one.tensor: one.largest for one in found if not one.largest <= limit}
    outputs = [value.name for value in model.graph.output if value.name in large]
    if outputs and not params.keep_io_types:
        raise StageError(
            f"the output {outputs[0]} reaches {large[outputs[0]]:.6g}, and fp16 holds {ranges.LARGEST:g} "
            f"(headroom {params.headroom:g})",
            hint="set keep_io_types of float16: the outputs then stay in fp32",
        )
    return halfprecision.touching(model.graph, large.keys())


def _range_facts(found: Sequence[Range]) -> dict[str, Any]:
    from stagelib import ranges

    ordered = sorted(found, key=lambda one: (-one.largest, one.tensor))
    above = [one for one in ordered if not one.largest <= ranges.LARGEST]
    shown = [{"tensor": one.tensor, "largest": ranges.number(one.largest)} for one in ordered[:SHOWN]]
    return {
        "tensors_measured": len(found),
        "tensors_above_fp16": len(above),
        "largest_tensors": shown,
        "ranges": ranges.FILE,
    }


def _placed(converted: onnx.ModelProto, spared: Sequence[onnx.NodeProto], params: Params) -> dict[str, Any]:
    """What stayed in fp32 and why, what fused operators hide from the measurement, and the casts between."""
    hiding = {node.op_type for node in converted.graph.node if node.domain}
    return {
        "kept_fp32_by_range": [{"node": node.name, "operator": node.op_type} for node in spared],
        "kept_fp32_by_recipe": list(params.keep_float32),
        "casts": sum(node.op_type == "Cast" for node in converted.graph.node),
        "not_measured_inside": sorted(hiding),
    }


def _rounding(
    call: Call, converted: onnx.ModelProto, feeds: Sequence[Feed], expected: tuple[Sequence[Outputs], Sequence[Any]]
) -> dict[str, Any]:
    """How alike the embeddings stay when every result is rounded to fp16: simulated on the CPU, no GPU's result."""
    import numpy as np

    from stagelib import halfprecision, ortrun, similarity, tensortypes

    reference, masks = expected
    halfprecision.spell_out(converted, tensortypes.describe_all(converted))
    session = ortrun.session_of(converted, [call.output], ortrun.options_of_few_runs())
    names = [output.name for output in session.get_outputs()]
    outputs = [ortrun.answers(session, names, feed) for feed in feeds]
    rounded = [similarity.embed(output, mask) for output, mask in zip(outputs, masks, strict=True)]
    exact = [similarity.embed(outputs, mask) for outputs, mask in zip(reference, masks, strict=True)]
    cosines = similarity.cosines(np.concatenate(rounded), np.concatenate(exact))
    mean, least = (float(value) if np.isfinite(value) else None for value in (cosines.mean(), cosines.min()))
    note = "every operator's result rounded to fp16, sums inside it in fp32; simulated on the CPU"
    return {"mean": mean, "min": least, "samples": len(cosines), "executed_on": "cpu", "note": note}
