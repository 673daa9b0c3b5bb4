"""`pack_qkv`: Q, K and V of every attention in one product, as DirectML's fused attention takes them.

A stage of its own, and the last one: the CPU provider throws on packed QKV. So the model before it, of the same
weights, is what executes where there is no DirectML, and this one is what ships.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stagelib.api import Call, Result, Stage, StageError
from stagelib.modelinfo import ModelInfo

if TYPE_CHECKING:
    import onnx

# Of the largest number among the results. Half precision rounds at the third digit, and a head in the wrong place
# differs in the first.
TOLERANCES = {"fp32": 1e-3}
TOLERANCE = 5e-2
CHECKED = (
    "the ONNX checker; the packed weights taken apart again, bit for bit; on the CPU, the packed graph with its "
    "attention in plain operators against the unpacked twin of the same weights; every operator is in ONNX Runtime's "
    "list of DirectML kernels. The packed operator itself was not executed: the CPU provider throws on it"
)


@dataclass(frozen=True, kw_only=True)
class Params:
    """Nothing to choose: the layout is the operator's."""


STAGE = Stage(
    summary="pack Q, K and V into one product for DirectML's MultiHeadAttention",
    inputs=("model",),
    takes="onnx",
    makes="directml",
    params=Params,
    needs=("onnxruntime", "onnx", "numpy"),
    threads=1,
    memory_factor=5.0,
    memory_mb=300,
)


def run(call: Call, params: Params) -> Result:
    """Write the packed `model.onnx`; StageError where there is no attention to pack, for a graph that DirectML wouldn't
    run whole, and where the packed weights or the results are not those of the model before."""
    from stagelib import directmlgraph, onnxfiles, packedqkv, shapes

    del params
    folder = call.input("model")
    call.progress(0.0, "reading the model")
    before, model = (onnxfiles.load(folder, weights=False) for _ in range(2))
    precision = ModelInfo.read(folder).precision
    attentions = packedqkv.pack_attention(model, folder)
    if not attentions:
        raise StageError(
            "the graph has no MultiHeadAttention to pack",
            hint="put optimize with attention and multi_head_attention before it",
        )
    gelus, sums = directmlgraph.rename_gelus(model), directmlgraph.sum_in_float(model)
    mask = directmlgraph.check_masks(model)
    missing = directmlgraph.without_kernel(model)
    if missing:
        listed = ", ".join(f"{name} ({number})" for name, number in missing.items())
        raise StageError(f"DirectML has no kernel for {listed}: these would run on the CPU")
    shapes.check(model)
    info = onnxfiles.save(model, call.output, precision, call)
    dataclasses.replace(info, format="directml").write(call.output)
    facts = _facts(model, attentions) | {"gelus_renamed": gelus, "sums_in_float": sums}
    call.progress(0.3, "holding the packed weights against the others")
    written, folders = onnxfiles.read(call.output / info.entry, weights=False), (call.output, folder)
    equal = packedqkv.prove(before, written, folders)
    call.progress(0.5, "executing both on the CPU")
    difference = _difference(before, written, folders, precision)
    call.progress(1.0)
    return Result(facts=facts | _proof(mask, equal, difference))


def _difference(twin: onnx.ModelProto, packed: onnx.ModelProto, folders: tuple[Path, Path], precision: str) -> float:
    """Largest absolute difference between the twin's results and those of the packed graph with its attention spelled
    out; `packed` is changed. StageError where it is more than rounding."""
    from stagelib import fusions, plainattention

    plainattention.spell_out(packed)
    feeds = fusions.feeds(twin.graph, any_padding=True)
    difference, largest = fusions.difference((twin, packed), folders, feeds)
    if not difference <= TOLERANCES.get(precision, TOLERANCE) * largest:
        raise StageError(
            f"the packed graph's results, up to {largest:.2e}, differ from those of the model before it by "
            f"{difference:.2e}"
        )
    return difference


def _facts(model: onnx.ModelProto, attentions: int) -> dict[str, object]:
    from stagelib import fusions

    return {
        "attentions_packed": attentions,
        "nodes": len(model.graph.node),
        "operators": fusions.operators(model.graph),
    }


def _proof(mask: str, equal: int, difference: float) -> dict[str, object]:
    return {
        "mask": mask,
        "numbers_equal": equal,
        "max_abs_diff": difference,
        "checked": CHECKED,
    }
