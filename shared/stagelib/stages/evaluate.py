"""What the model's embeddings are worth beside those of its fp32 export: similarity text by text, and a probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stagelib.api import Call, Result, Stage, StageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

TASK = "entailment, neutral or contradiction, from the pair's two embeddings"


@dataclass(frozen=True, kw_only=True)
class Params:
    """Draws the bootstrap."""

    seed: int = 0


STAGE = Stage(
    summary="compare embeddings with the fp32 export's",
    inputs=("embeddings", "reference_embeddings", "batches"),
    params=Params,
    needs=("numpy", "scikit-learn"),
    kind="measurement",
    internal=True,
    threads=1,
    memory_factor=0.0,
    memory_mb=400,
)


def run(call: Call, params: Params) -> Result:
    """Similarity of the two models' embeddings [texts, hidden] and, where the batches hold pairs, the probe's accuracy.

    A text that the candidate answers with NaN or infinity makes mean and minimum NaN: the gate refuses it, not the
    stage. StageError where the reference does so, for then there is nothing to compare with.
    """
    import numpy as np

    from stagelib import batches, similarity
    from stagelib.stages.embed import FILE

    call.progress(0.0, "comparing embeddings")
    found, expected = (dict(np.load(call.input(role) / FILE)) for role in ("embeddings", "reference_embeddings"))
    if not all(np.isfinite(array).all() for array in expected.values()):
        raise StageError("the fp32 export's outputs hold NaN or infinity", kind="model")
    left, right = found["evaluation"], expected["evaluation"]
    cosines = similarity.cosines(left, right)
    facts: dict[str, Any] = {
        "similarity": similarity.summarize(cosines)
        | {
            "unrelated_mean": similarity.unrelated_pairs(right),
            "centred_mean": similarity.centred_mean(left, right),
            "nearest_agreement": similarity.nearest_agreement(left, right),
        }
    }
    rows = batches.read_rows(call.input("batches"), batches.EVALUATION)
    facts["inputs_sha256"] = batches.digest(rows)
    tokens = rows[batches.MASK].sum(axis=1)
    scored = similarity.listed(cosines)
    samples: list[Mapping[str, Any]] = [
        {"index": row, "cosine": scored[row], "tokens": int(tokens[row])} for row in range(len(scored))
    ]
    if "pairs" in found and "pairs" in expected:
        call.progress(0.5, "training the probe")
        facts["accuracy"], answers = _accuracy(call, found["pairs"], expected["pairs"], params.seed)
        samples += answers
    call.progress(1.0)
    return Result(facts=facts, samples=samples)


def _accuracy(
    call: Call, found: NDArray[Any], expected: NDArray[Any], seed: int
) -> tuple[dict[str, Any], Sequence[Mapping[str, Any]]]:
    """The probe's facts, and for each pair that was judged which of the models got it right."""
    import numpy as np

    from stagelib import probe
    from stagelib.pairs import Pairs

    pairs = Pairs.read(call.input("batches"))
    premise, hypothesis = list(pairs.premise), list(pairs.hypothesis)
    labels = np.asarray(pairs.labels, np.int64)
    # A vector that is not finite can't be classified; as zeros it is merely wrong.
    usable = np.where(np.isfinite(found), found, 0.0)
    fp32, optimized = probe.right_answers(
        probe.features(expected[premise], expected[hypothesis]),
        probe.features(usable[premise], usable[hypothesis]),
        labels,
        pairs.train,
    )
    facts = probe.compare(fp32, optimized, seed) | {
        "task": TASK,
        "train_samples": pairs.train,
        "chance": probe.chance(labels[pairs.train :]),
    }
    answers = [
        {"pair": pairs.train + index, "fp32_right": bool(left), "optimized_right": bool(right)}
        for index, (left, right) in enumerate(zip(fp32, optimized, strict=True))
    ]
    return facts, answers
