"""`synthesize`: a full-size encoder with seeded random weights, for measuring where no real model is at hand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stagelib.api import Call, Result, Stage, StageError
from stagelib.wordpiece import vocabulary

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
    """Write configuration, tokenizer and the seed; the weights are drawn from it where they are read, by `export`."""
    from transformers import BertConfig

    from stagelib import synthetic

    if params.seed < 0:
        raise StageError(f"seed {params.seed} is negative", hint="any whole number from 0 on", kind="model")
    words = vocabulary(params.vocab_size)
    config = BertConfig(vocab_size=params.vocab_size, **SHAPES[params.architecture])
    config.architectures = ["BertModel"]
    config.save_pretrained(call.output)
    synthetic.mark(call.output, params.seed)
    _save_tokenizer(words, call)
    parameters = sum(math.prod(shape) for shape in synthetic.shapes(config).values())
    return Result(facts={"synthetic": True, "parameters": parameters, "vocabulary": len(words)})


def _save_tokenizer(words: list[str], call: Call) -> None:
    from transformers import BertTokenizerFast

    listing: Path = call.scratch / "vocab.txt"
    listing.write_text("\n".join(words) + "\n", encoding="utf-8")
    # Cased, and accents kept, as the Portuguese model of the same shape has it.
    tokenizer = BertTokenizerFast(str(listing), do_lower_case=False, strip_accents=False, model_max_length=MAX_LENGTH)
    tokenizer.save_pretrained(call.output)
