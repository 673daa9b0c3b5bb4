"""`emulate`: the compiled model in its vendor's emulator, against the model it was compiled from, on a few texts."""

from __future__ import annotations

import time
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
    """The emulator, filled in from the target, and how much of it."""

    runtime: str
    device: str
    samples: int = 4
    """Texts at the most."""
    budget_s: float = 90.0
    """No further run is begun after this many CPU seconds of emulation; one always is. Not of the time that passes:
    what else the machine does must not decide how much is certified."""

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError("samples must be at least 1")
        if self.budget_s <= 0:
            raise ValueError("budget_s must be above 0")


STAGE = Stage(
    summary="run the compiled model in the vendor's emulator, against the model it was compiled from",
    inputs=("model", "executable", "batches"),
    params=Params,
    needs=("onnxruntime", "numpy"),
    kind="measurement",
    runtime=True,
    internal=True,
    memory_factor=6.0,
    memory_mb=600,
)


def run(call: Call, params: Params) -> Result:
    """Cosine of the pooled embeddings, emulated against ONNX Runtime on the CPU, on texts of the evaluation split.

    StageError where the runtime's device is no emulator: what this stage reports is never a device's.
    """
    import numpy as np

    from stagelib import batches, similarity
    from stagelib.runtimes import onnxruntime as baseline
    from stagelib.runtimes.base import find_runtime, places

    runtime = find_runtime(params.runtime)
    if runtime.executed_on(params.device) != "emulator":
        raise StageError(f"device {params.device!r} of runtime {params.runtime} is no emulator")
    rows = batches.read_rows(call.input("batches"), batches.EVALUATION)
    info, against = ModelInfo.read(call.input("model")), ModelInfo.read(call.input("executable"))
    size = _batch_size(info)
    call.progress(0.0, "loading the compiled model")
    emulated = runtime.load(call.input("model"), device=params.device, threads=None)
    compiled_from = baseline.load(call.input("executable"), device=BASELINE_DEVICE, threads=None)
    cosines, seconds = _compare(call, params, rows, size, (emulated, compiled_from))
    scored = similarity.listed(cosines)
    return Result(
        facts={
            "similarity": similarity.summarize(cosines),
            "samples": len(cosines),
            "samples_asked": params.samples,
            "executed_on": runtime.executed_on(params.device),
            "variant": info.entry,
            "placement": places(emulated),
            "settings": dict(emulated.settings),
            "seconds_per_text": round(float(np.mean(seconds)) / size, 3),
            "against": f"{against.entry} ({against.precision}) on ONNX Runtime's CPU provider",
        },
        samples=[
            {"index": row, "cosine": scored[row], "seconds": round(seconds[row // size], 3)}
            for row in range(len(scored))
        ],
    )


def _batch_size(info: ModelInfo) -> int:
    size = info.inputs[0].shape[0]
    if not isinstance(size, int):
        raise StageError("the model's batch size is free", hint="put fix_shape among the recipe's stages")
    return size


def _compare(
    call: Call, params: Params, rows: Rows, size: int, sessions: tuple[Session, Session]
) -> tuple[NDArray[Any], list[float]]:
    """Cosine for each text, and the seconds that passed for each run of `size` texts."""
    import numpy as np

    from stagelib import batches, similarity

    emulated, compiled_from = sessions
    total = min(params.samples, batches.count(rows))
    scores: list[NDArray[Any]] = []
    seconds: list[float] = []
    used = 0.0
    for start in range(0, total, size):
        if seconds and used >= params.budget_s:
            call.log(f"stopped after {start} of {total} texts: {params.budget_s:g} CPU seconds of emulation are spent")
            break
        batch = batches.take(rows, start, size)
        call.progress(start / total, f"emulating text {start + 1} of {total}")
        began, used_before = time.perf_counter(), time.process_time()
        outputs = emulated.run(batches.feed(batch, emulated.inputs))
        seconds.append(time.perf_counter() - began)
        used += time.process_time() - used_before
        expected = compiled_from.run(batches.feed(batch, compiled_from.inputs))
        left, right = (similarity.embed(result, batch[batches.MASK]) for result in (outputs, expected))
        scores.append(similarity.cosines(left, right))
    return np.concatenate(scores)[:total], seconds
