"""How alike the model's embeddings are to those of its fp32 export, text by text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stagelib.api import Call, Result, Stage, StageError
from stagelib.modelinfo import ModelInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stagelib.batches import Rows
    from stagelib.runtimes.base import Session

BASELINE_DEVICE = "cpu"


@dataclass(frozen=True, kw_only=True)
class Params:
    """What runs the model; filled in from the target."""

    runtime: str
    device: str


STAGE = Stage(
    summary="compare embeddings with the fp32 export's",
    inputs=("executable", "reference", "batches"),
    params=Params,
    needs=("onnxruntime", "numpy"),
    kind="measurement",
    runtime=True,
    internal=True,
)


def run(call: Call, params: Params) -> Result:
    """Cosine of the mean-pooled embeddings, candidate against reference, on the texts of the evaluation split.

    A text that the candidate answers with NaN or infinity makes mean and minimum NaN: the gate refuses it, not the
    stage. StageError where the reference does so, for then there is nothing to compare with.
    """
    from stagelib import batches, similarity
    from stagelib.runtimes import onnxruntime as baseline
    from stagelib.runtimes.base import find_runtime, places

    rows = batches.read_rows(call.input("batches"), batches.EVALUATION)
    size = ModelInfo.read(call.input("executable")).inputs[0].shape[0]
    if not isinstance(size, int):
        raise StageError("the model's batch size is free", hint="put fix_shape among the recipe's stages")
    runtime = find_runtime(params.runtime)
    session = runtime.load(call.input("executable"), device=params.device, threads=None)
    reference = baseline.load(call.input("reference"), device=BASELINE_DEVICE, threads=None)
    cosines, unrelated = _compare(call, rows, size, (session, reference))
    tokens = rows[batches.MASK].sum(axis=1)
    facts = {
        "similarity": similarity.summarize(cosines) | {"unrelated_mean": unrelated},
        "placement": places(session),
        "executed_on": runtime.executed_on(params.device),
        "settings": dict(session.settings),
        "inputs_sha256": batches.digest(rows),
    }
    scored = similarity.listed(cosines)
    return Result(
        facts=facts,
        samples=[{"index": row, "cosine": scored[row], "tokens": int(tokens[row])} for row in range(len(scored))],
    )


def _compare(call: Call, rows: Rows, size: int, sessions: tuple[Session, Session]) -> tuple[NDArray[Any], float | None]:
    """Cosine of candidate and reference for each row, `size` rows a run; and the reference's of unrelated texts."""
    import numpy as np

    from stagelib import batches, similarity

    candidate, reference = sessions
    total = batches.count(rows)
    scores, expected = [], []
    for start in range(0, total, size):
        batch = batches.take(rows, start, size)
        right = _embed(reference, batch)
        if not np.isfinite(right).all():
            raise StageError("the fp32 export's outputs hold NaN or infinity", kind="model")
        scores.append(similarity.cosines(_embed(candidate, batch), right))
        expected.append(right)
        call.progress(min(start + size, total) / total, f"{min(start + size, total)} of {total} texts")
    return np.concatenate(scores)[:total], similarity.unrelated_pairs(np.concatenate(expected)[:total])


def _embed(session: Session, batch: Rows) -> NDArray[Any]:
    from stagelib import batches, similarity

    return similarity.embed(session.run(batches.feed(batch, session.inputs)), batch[batches.MASK])
