"""Sentence embeddings of the evaluation texts, by one model: what similarity and accuracy are judged on."""

from __future__ import annotations

from dataclasses import dataclass

from stagelib import pairs
from stagelib.api import Call, Result, Stage
from stagelib.modelinfo import ModelInfo

FILE = "embeddings.npz"


@dataclass(frozen=True, kw_only=True)
class Params:
    """What runs the model; filled in from the target."""

    runtime: str
    device: str


STAGE = Stage(
    summary="embed the evaluation texts",
    inputs=("executable", "batches"),
    params=Params,
    needs=("numpy",),
    runtime=True,
    internal=True,
    memory_factor=3.0,
    memory_mb=300,
)


def run(call: Call, params: Params) -> Result:
    """Write embeddings.npz: float64 [texts, hidden], `evaluation` and, where the batches hold pairs, `pairs`.

    What is not finite is kept: the gates judge the model, not this stage.
    """
    import numpy as np

    from stagelib import batches
    from stagelib.embedding import embed_rows
    from stagelib.runtimes.base import find_runtime, places

    folder = call.input("batches")
    names = ["evaluation", *([pairs.NAME] if (folder / pairs.FILE).is_file() else [])]
    rows = {name: batches.read_rows(folder, f"{name}.npz") for name in names}
    size, length = ModelInfo.read(call.input("executable")).inputs[0].shape[:2]
    # The fp32 export takes any shape: text by text, without padding, it says the same in a fraction of the time.
    free = not isinstance(length, int)
    if not isinstance(size, int):
        size = 1
    runtime = find_runtime(params.runtime)
    session = runtime.load(call.input("executable"), device=params.device, threads=None)
    total, before = sum(batches.count(part) for part in rows.values()), 0

    def report(done: int) -> None:
        call.progress((before + done) / total, f"{before + done} of {total} texts")

    embedded = {}
    for name, part in rows.items():
        embedded[name] = embed_rows(session, part, size, report, trim=free)
        before += batches.count(part)
    np.savez(call.output / FILE, allow_pickle=False, **embedded)
    return Result(
        facts={
            "texts": {name: batches.count(part) for name, part in rows.items()},
            "inputs_sha256": batches.digest(rows["evaluation"]),
            "placement": places(session),
            "executed_on": runtime.executed_on(params.device),
            "settings": dict(session.settings),
        }
    )
