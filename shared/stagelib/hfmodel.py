"""A Hugging Face model as a plain folder: which of its files count, and whether we may take it."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from stagelib.api import StageError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
POOLING = "1_Pooling/config.json"
TOKENIZERS = frozenset(
    {"tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model"}
)
OTHERS = frozenset(
    {
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "merges.txt",
        "modules.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
        POOLING,
    }
)
# Types whose positions start behind the padding token's id, so that a position table of 514 takes 512 tokens.
OFFSET_POSITIONS = frozenset(
    {
        "camembert",
        "data2vec-text",
        "esm",
        "ibert",
        "lilt",
        "longformer",
        "luke",
        "markuplm",
        "mpnet",
        "roberta",
        "roberta-prelayernorm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    }
)


def wanted(names: Collection[str]) -> list[str]:
    """Of a repository's file names those that make a model folder: configuration, tokenizer and one set of safetensors.

    Never code, never pickles; where both whole and sharded weights are there, the whole ones.
    """
    kept = [name for name in names if name == CONFIG or name in TOKENIZERS or name in OTHERS]
    if WEIGHTS in names:
        return sorted([*kept, WEIGHTS])
    if WEIGHTS_INDEX in names:
        shards = [
            name for name in names if name.startswith("model-") and name.endswith(".safetensors") and "/" not in name
        ]
        return sorted([*kept, WEIGHTS_INDEX, *shards])
    return sorted(kept)


def refuse_without_weights(names: Collection[str], name: str, revision: str) -> None:
    """StageError for a repository that has no configuration or no safetensors."""
    if CONFIG not in names:
        raise StageError(f"the model {name!r} (revision {revision}) has no {CONFIG}", hint=_OTHER_MODEL, kind="model")
    if WEIGHTS in names or WEIGHTS_INDEX in names:
        return
    pickles = sorted(entry for entry in names if entry.endswith((".bin", ".pt", ".h5", ".msgpack")))
    has = f"; it has {', '.join(pickles)}" if pickles else ""
    raise StageError(
        f"the model {name!r} (revision {revision}) has no {WEIGHTS}, and pickled weights are never loaded{has}",
        hint="the hub's conversion bot often left one: look for a revision refs/pr/N on its page; or --model=<folder>",
        kind="model",
    )


def missing_files(folder: Path) -> list[str]:
    """What a folder lacks to be a whole model with a tokenizer: file names, none where it is complete."""
    absent = [] if (folder / CONFIG).is_file() else [CONFIG]
    if not (folder / WEIGHTS).is_file():
        index = folder / WEIGHTS_INDEX
        absent += [name for name in _shards(index) if not (folder / name).is_file()] if index.is_file() else [WEIGHTS]
    if not any((folder / name).is_file() for name in TOKENIZERS):
        absent.append("tokenizer.json")
    return absent


def _shards(index: Path) -> list[str]:
    weight_map = _read_json(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise StageError(f"{index.name} has no weight_map, so the weights can't be found", kind="model")
    return sorted({str(name) for name in weight_map.values()})


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a model folder; StageError where it is missing or no JSON object."""
    if not (folder / CONFIG).is_file():
        raise StageError(f"the model's folder has no {CONFIG}", hint=_OTHER_MODEL, kind="model")
    return _read_json(folder / CONFIG)


def longest_text(config: dict[str, Any]) -> int | None:
    """The most tokens that the model's positions serve; None where its configuration names no limit."""
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int) or positions < 1:
        return None
    if config.get("model_type") not in OFFSET_POSITIONS:
        return positions
    padding = config.get("pad_token_id")
    return positions - (padding if isinstance(padding, int) else 1) - 1


def leave_torch_out() -> None:
    """To be called before transformers is imported for its tokenizers or configurations: PyTorch takes seconds."""
    os.environ |= {"USE_TORCH": "0", "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1"}


def refuse_remote_code(config: dict[str, Any]) -> None:
    """StageError where a configuration asks for code of its own: a built-in class in its place is another model."""
    model_type = str(config.get("model_type", ""))
    if "auto_map" in config:
        raise StageError(
            f"the model needs code from its own repository (auto_map in {CONFIG}, model type {model_type!r}), "
            "and remote code is never run",
            hint="choose a model that needs no code of its own",
            kind="model",
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise StageError(f"{path.name} of the model is not JSON: {error}", kind="model") from None
    if not isinstance(value, dict):
        raise StageError(f"{path.name} of the model is a {type(value).__name__}, not a JSON object", kind="model")
    return value


_OTHER_MODEL = "--model=<folder> takes a folder with config.json, model.safetensors and the tokenizer's files"
