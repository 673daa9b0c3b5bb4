"""The contract of a deployed model: what an application must feed it, and how to read what comes out."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stagelib.api import StageError

Pooling = Literal["mean", "cls", "max"]
TOKENIZER = "tokenizer"
# The tokenizer classes look into config.json for the model's type.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "config.json",
)
VOCABULARIES = frozenset({"tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model"})
_MODES: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How an embedding is made of the hidden states."""

    mode: Pooling = "mean"
    normalize: bool = False


def read_pooling(source: Path) -> Reading:
    """What sentence-transformers' files say, else the masked mean; StageError for a mode that isn't served."""
    modules = _json(source / "modules.json")
    kinds = [str(module.get("type", "")) for module in modules] if isinstance(modules, list) else []
    normalize = any(kind.endswith("Normalize") for kind in kinds)
    config = _json(source / "1_Pooling" / "config.json")
    if not isinstance(config, dict):
        return Reading(normalize=normalize)
    asked = [name for name, value in config.items() if name.startswith("pooling_mode_") and value is True]
    if len(asked) == 1 and asked[0] in _MODES:
        return Reading(mode=_MODES[asked[0]], normalize=normalize)
    modes = ", ".join(asked) or "no mode"
    raise StageError(
        f"1_Pooling/config.json asks for {modes}", hint=f"served: one of {', '.join(_MODES)}", kind="model"
    )


def read_padding(source: Path, sequence_length: int) -> dict[str, Any]:
    """Length, side, token and token id of padding."""
    settings = _json(source / "tokenizer_config.json")
    settings = settings if isinstance(settings, dict) else {}
    token = settings.get("pad_token", "[PAD]")
    token = token.get("content") if isinstance(token, dict) else token
    side = settings.get("padding_side", "right")
    return {"max_length": sequence_length, "side": side, "token": token, "token_id": _token_id(source, token)}


def copy_tokenizer(source: Path, target: Path) -> list[str]:
    """Copy the tokenizer's files; returns their names. StageError where the model's folder has no vocabulary."""
    names = [name for name in TOKENIZER_FILES if (source / name).is_file()]
    if not VOCABULARIES.intersection(names):
        raise StageError(
            "the model's folder holds no tokenizer", hint="add tokenizer.json or vocab.txt to it", kind="model"
        )
    target.mkdir()
    for name in names:
        shutil.copyfile(source / name, target / name)
    return names


def _token_id(source: Path, token: str | None) -> int:
    tokenizer = _json(source / "tokenizer.json")
    if isinstance(tokenizer, dict):
        for added in tokenizer.get("added_tokens") or ():
            if added.get("content") == token:
                return int(added["id"])
    vocabulary = source / "vocab.txt"
    if vocabulary.is_file():
        words = vocabulary.read_text(encoding="utf-8").split("\n")
        if token in words:
            return words.index(token)
    config = _json(source / "config.json")
    return int((config.get("pad_token_id") if isinstance(config, dict) else None) or 0)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StageError(f"{path.name} of the model is not JSON: {error}", kind="model") from error
