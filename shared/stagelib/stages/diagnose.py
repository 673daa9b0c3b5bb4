"""Which layers lose most, for a model that failed its gates: error per tensor against fp32, on a few texts."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from stagelib.api import Call, Result, Stage, StageError
from stagelib.modelinfo import ModelInfo

SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Params:
    """How many texts; and what runs the model, filled in from the target."""

    runtime: str
    device: str
    samples: int = 4


STAGE = Stage(
    summary="find the layers that lose most",
    inputs=("executable", "reference", "batches"),
    params=Params,
    needs=("onnxruntime", "onnx", "numpy"),
    kind="measurement",
    runtime=True,
    internal=True,
)


def run(call: Call, params: Params) -> Result:
    """Errors of the tensors that both graphs have; the worst in the facts, all of them in the samples.

    StageError where the two graphs have no tensor in common: a compiler has renamed or fused them all.
    """
    import onnx

    from stagelib import batches, layers

    call.progress(0.0, "opening both graphs")
    folder, reference = call.input("executable"), call.input("reference")
    graph = onnx.load(str(reference / ModelInfo.read(reference).entry), load_external_data=False).graph
    ops = layers.made_tensors(reference)
    names = sorted(set(ops) & set(layers.made_tensors(folder)))
    if not names:
        raise StageError("the model and its fp32 export have no tensor's name in common")
    rows = batches.read_rows(call.input("batches"), batches.EVALUATION)
    size = ModelInfo.read(folder).inputs[0].shape[0]
    assert isinstance(size, int)
    feeds = [batches.take(rows, index * size, size) for index in range(params.samples)]
    call.progress(0.2, "running fp32")
    expected = layers.run_exposed(reference, names, feeds, call.scratch)
    call.progress(0.6, "running the model")
    found = layers.run_exposed(folder, [name for name in names if name in expected[0]], feeds, call.scratch)
    worst = [asdict(one) for one in layers.errors(graph, expected, found, ops)]
    call.progress(1.0)
    return Result(facts={"layer_errors": worst[:SHOWN], "tensors": len(worst)}, samples=worst)
