"""Edit an ONNX graph for low-precision work: a small attention-mask constant, and Gemm where a compiler wants it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stagelib.api import Call, Result, Stage, StageError
from stagelib.modelinfo import ModelInfo


@dataclass(frozen=True, kw_only=True)
class Params:
    """What to change."""

    mask_value: float = -100.0
    """Takes the place of the smallest float that masks padding, which in 16 bits or less drowns all else or overflows.
    Mind fp32 on a CPU: softmax turns -100 into denormal numbers, which made ONNX Runtime 2.4 times slower."""
    matmul_add_to_gemm: bool = False
    """Turn a MatMul by a weight and the Add of its bias into one Gemm. The shapes must be fixed."""

    def __post_init__(self) -> None:
        if not -math.inf < self.mask_value < 0:
            raise ValueError("mask_value must be a negative number")


STAGE = Stage(
    summary="replace the attention-mask constant, optionally turn MatMul + Add into Gemm",
    inputs=("model",),
    takes="onnx",
    makes="onnx",
    params=Params,
    needs=("onnx", "numpy"),
    threads=1,
    memory_factor=3.5,
    memory_mb=100,
)


def run(call: Call, params: Params) -> Result:
    """Write the edited model; StageError where nothing matched."""
    from stagelib import graphsurgery, onnxfiles, shapes

    call.progress(0.0, "reading the model")
    folder = call.input("model")
    model = onnxfiles.load(folder, weights=False)
    replaced = graphsurgery.replace_mask_constant(model.graph, params.mask_value, folder)
    if not replaced:
        raise StageError("no attention-mask constant (the smallest float, or minus infinity) is in the model")
    facts: dict[str, object] = {"mask_constants_replaced": replaced, "mask_value": params.mask_value}
    if params.matmul_add_to_gemm:
        call.progress(0.4, "MatMul + Add to Gemm")
        facts["gemms_made"] = graphsurgery.matmul_add_to_gemm(model)
    shapes.check(model)
    onnxfiles.save(model, call.output, ModelInfo.read(folder).precision, call)
    call.progress(1.0)
    return Result(facts=facts)
