"""Make the directory one ships: model, tokenizer, contract and golden vectors made by running the model itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from stagelib.api import Call, Result, Stage, StageError
from stagelib.modelinfo import ModelInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stagelib.contract import Reading

CONTRACT = "contract.json"
GOLDEN = "golden.npz"
GOLDEN_ROWS = 3
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Params:
    """Where the golden vectors are computed; filled in from the target."""

    runtime: str
    device: str


STAGE = Stage(
    summary="make the directory one ships, with its contract and golden vectors",
    inputs=("model", "executable", "source", "batches"),
    params=Params,
    needs=("numpy",),
    runtime=True,
    internal=True,
    threads=1,
    memory_factor=3.0,
    memory_mb=200,
)


def run(call: Call, params: Params) -> Result:
    """Write model files, `tokenizer/`, `contract.json` and `golden.npz`.

    The golden vectors are the executable's: the model itself, or the one it was compiled from where no device is.
    """
    import numpy as np

    from stagelib import contract, onnxfiles
    from stagelib.runtimes.base import find_runtime

    source = call.input("source")
    call.progress(0.0, "copying the model")
    info = onnxfiles.ship(call, ModelInfo.read(call.input("model")))
    info.write(call.output)
    tokenizer = contract.copy_tokenizer(source, call.output / contract.TOKENIZER)
    reading = contract.read_pooling(source)
    call.progress(0.4, "running the golden inputs")
    runtime = find_runtime(params.runtime)
    session = runtime.load(call.input("executable"), device=params.device, threads=None)
    golden, arrays = _golden(call, info, reading, session)
    np.savez(call.output / GOLDEN, allow_pickle=False, **arrays)
    document = {
        **_description(info, reading),
        "runtime": params.runtime,
        "tokenizer": {"folder": contract.TOKENIZER, "files": tokenizer},
        "padding": contract.read_padding(source, _shape(info)[1]),
        "golden": {
            "arrays": GOLDEN,
            "executed_on": runtime.executed_on(params.device),
            "executed_format": ModelInfo.read(call.input("executable")).format,
            "samples": golden,
        },
    }
    (call.output / CONTRACT).write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")
    call.progress(1.0)
    return Result(facts={**_sizes(call, info), "pooling": reading.mode, "golden_samples": len(golden)})


def _sizes(call: Call, info: ModelInfo) -> dict[str, int]:
    written = {
        path.relative_to(call.output).as_posix(): path.stat().st_size
        for path in call.output.rglob("*")
        if path.is_file()
    }
    sizes = written | {name: (call.input(role) / source).stat().st_size for name, (role, source) in call.passed.items()}
    return {"deploy_bytes": sum(sizes.values()), "model_bytes": sum(sizes[name] for name in info.files)}


def _description(info: ModelInfo, reading: Reading) -> dict[str, Any]:
    """What the contract says of the model itself."""
    return {
        "contract_version": VERSION,
        "format": info.format,
        "precision": info.precision,
        "entry": info.entry,
        "files": list(info.files),
        "variants": [asdict(variant) for variant in info.variants],
        "inputs": [asdict(tensor) for tensor in info.inputs],
        "outputs": [asdict(tensor) for tensor in info.outputs],
        "pooling": {
            "output": info.outputs[0].name,
            "mode": reading.mode,
            "masked": True,
            "normalize": reading.normalize,
        },
    }


def _shape(info: ModelInfo) -> tuple[int, int]:
    """Batch size and sequence length; StageError where they are free, since padding couldn't be stated."""
    batch, length = info.inputs[0].shape
    if not isinstance(batch, int) or not isinstance(length, int):
        raise StageError("the model's input shape is free", hint="put fix_shape among the recipe's stages")
    return batch, length


def _golden(
    call: Call, info: ModelInfo, reading: Reading, session: Any
) -> tuple[list[dict[str, Any]], dict[str, NDArray[Any]]]:
    """A few inputs with their embeddings, as JSON and as arrays [rows, ...]; the arrays hold the full outputs too.

    What is not finite stays so in the arrays and is null in JSON: the gates judge the model, not this stage.
    """
    import numpy as np

    from stagelib import batches, similarity

    rows = batches.read_rows(call.input("batches"), batches.EVALUATION)
    size = _shape(info)[0]
    total = min(GOLDEN_ROWS, batches.count(rows))
    chunks: list[Mapping[str, NDArray[Any]]] = []
    for start in range(0, total, size):
        batch = batches.take(rows, start, size)
        outputs = session.run(batches.feed(batch, session.inputs))
        embeddings = similarity.embed(outputs, batch[batches.MASK], reading.mode)
        embeddings = similarity.normalized(embeddings) if reading.normalize else embeddings
        chunks.append({**batches.feed(batch, session.inputs), **outputs, "embedding": embeddings.astype(np.float32)})
    arrays = {name: np.concatenate([chunk[name] for chunk in chunks])[:total] for name in chunks[0]}
    if not np.isfinite(arrays["embedding"]).all():
        call.log("the golden embeddings hold NaN or infinity; the contract has null in their place")
    listed = (*session.inputs, "embedding")
    return [{name: similarity.listed(arrays[name][row]) for name in listed} for row in range(total)], arrays
