"""`synthesize`: a full-size encoder with seeded random weights, for measuring where no real model is at hand."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stagelib.api import Call, Result, Stage, StageError
from stagelib.wordpiece import vocabulary

if TYPE_CHECKING:
    import numpy as np

SHAPES: dict[str, dict[str, int]] = {
    "bert-base": {},
    "bert-tiny": {"num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 512},
}
MAX_LENGTH = 512


@dataclass(frozen=True, kw_only=True)
class Params:
    """`bert-base` is 12 layers of 768, `bert-tiny` 2 layers of 128 for quick tests; `vocab_size` in tokens."""

    architecture: Literal["bert-base", "bert-tiny"] = "bert-base"
    seed: int = 0
    vocab_size: int = 29794


STAGE = Stage(
    summary="make a model of random weights",
    params=Params,
    needs=("torch", "transformers", "safetensors", "numpy"),
    internal=True,
    threads=1,
    memory_mb=2000,
)


def run(call: Call, params: Params) -> Result:
    import torch
    from safetensors.numpy import save_file
    from transformers import BertConfig, BertModel

    if params.seed < 0:
        raise StageError(f"seed {params.seed} is negative", hint="any whole number from 0 on", kind="model")
    words = vocabulary(params.vocab_size)
    config = BertConfig(vocab_size=params.vocab_size, **SHAPES[params.architecture])
    config.architectures = ["BertModel"]
    # Only names and shapes are taken from the library: its own random numbers differ between processors.
    with torch.device("meta"):
        shapes = {name: tuple(weight.shape) for name, weight in BertModel(config).state_dict().items()}
    shapes = {name: shape for name, shape in shapes.items() if not name.endswith("position_ids")}
    weights: dict[str, Any] = {}
    for done, (name, shape) in enumerate(sorted(shapes.items())):
        weights[name] = _weight(name, shape, params.seed, config.initializer_range)
        call.progress(done / len(shapes), name)
    save_file(weights, call.output / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(call.output)
    _save_tokenizer(words, call)
    size = (call.output / "model.safetensors").stat().st_size
    parameters = sum(weight.size for weight in weights.values())
    return Result(facts={"synthetic": True, "parameters": parameters, "vocabulary": len(words), "bytes": size})


def _weight(name: str, shape: tuple[int, ...], seed: int, deviation: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    """One tensor, float32, as BERT starts: drawn from its own stream, so that no other tensor's size matters."""
    import numpy as np

    if name.endswith("bias"):
        return np.zeros(shape, np.float32)
    if name.endswith("LayerNorm.weight"):
        return np.ones(shape, np.float32)
    stream = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
    return stream.standard_normal(shape, np.float32) * np.float32(deviation)


def _save_tokenizer(words: list[str], call: Call) -> None:
    from transformers import BertTokenizerFast

    listing: Path = call.scratch / "vocab.txt"
    listing.write_text("\n".join(words) + "\n", encoding="utf-8")
    # Cased, and accents kept, as the Portuguese model of the same shape has it.
    tokenizer = BertTokenizerFast(str(listing), do_lower_case=False, strip_accents=False, model_max_length=MAX_LENGTH)
    tokenizer.save_pretrained(call.output)
