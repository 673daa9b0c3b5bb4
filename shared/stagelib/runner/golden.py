"""The model's answers to the golden inputs, against the embeddings that were packed with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stagelib.api import StageError
from stagelib.modelinfo import ModelInfo
from stagelib.runner.checks import Check
from stagelib.runner.contents import DEPLOY, Contents

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stagelib.runtimes.base import ExecutedOn, Session

CONTRACT = "contract.json"


def check_golden(
    root: Path, contents: Contents, session: Session, executed_on: ExecutedOn, limit: float | None
) -> Check:
    """Cosine of each answer with the packed one; `limit` takes the place of the bundle's own."""
    import numpy as np

    least = limit
    if least is None:
        least = contents.golden_min_cosine["cpu" if executed_on == "cpu" else "device"]
    contract = json.loads((root / DEPLOY / CONTRACT).read_text(encoding="utf-8"))
    arrays = _arrays(root / DEPLOY / contract["golden"]["arrays"])
    cosines, largest = _compare(root, contract["pooling"], arrays, session)
    worst = float(cosines.min()) if np.isfinite(cosines).all() else float("nan")
    text = (
        f"cosine of the worst of {len(cosines)} texts with the packed answers is {worst:.6f}, at least {least:g} is "
        f"asked; largest difference {largest:.2g}; they were made on {contract['golden']['executed_on']}"
    )
    found = None if np.isnan(worst) else round(worst, 6)
    return Check(name="golden", passed=worst >= least, text=text, limit=least, found=found)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of golden.npz, each [rows, ...]; StageError where it can't be read."""
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise StageError(f"can't read {path.name}: {error}", hint="unpack the bundle again") from error


def _compare(
    root: Path, pooling: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], session: Session
) -> tuple[NDArray[Any], float]:
    """Cosine of each row [rows], and the largest difference of any element."""
    import numpy as np

    from stagelib import batches, similarity

    size = ModelInfo.read(root / DEPLOY).inputs[0].shape[0]
    if not isinstance(size, int) or batches.MASK not in arrays:
        raise StageError("the golden vectors don't say which tokens are text, or the batch size is free")
    rows = {name: arrays[name].astype(np.int64) for name in {*session.inputs, batches.MASK} if name in arrays}
    total = batches.count(rows)
    found = []
    for start in range(0, total, size):
        batch = batches.take(rows, start, size)
        outputs = session.run(batches.feed(batch, session.inputs))
        found.append(similarity.embed(outputs, batch[batches.MASK], pooling["mode"]))
    embeddings = np.concatenate(found)[:total]
    embeddings = similarity.normalized(embeddings) if pooling["normalize"] else embeddings
    expected = arrays["embedding"].astype(np.float64)
    return similarity.cosines(embeddings, expected), float(np.abs(embeddings - expected).max())
