"""`tokenize`: texts to fixed-length token batches, so that no vendor's image needs a tokenizer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stagelib import hfmodel, pairs, rows
from stagelib.api import Call, Result, Stage, StageError
from stagelib.rows import read_texts
from stagelib.split import Split, split

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SPLIT = "split.json"
NAMES = ("input_ids", "attention_mask", "token_type_ids")
CHUNK = 64
# Tokenizers without a limit of their own carry a number of thirty digits.
NO_LIMIT = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Params:
    """Which field of each data set holds the texts, and how many are asked of it; lengths are in tokens.

    Without calibration its field is empty and its count 0. Whoever feeds a model cuts the rows to `batch_size`.
    """

    evaluation_field: str
    evaluation_samples: int
    calibration_field: str = ""
    calibration_samples: int = 0
    accuracy_fields: tuple[str, ...] = ()
    """Premise and hypothesis of the pairs that a probe is trained and judged on; empty without."""
    accuracy_train_samples: int = 0
    accuracy_samples: int = 0
    batch_size: int
    sequence_length: int


STAGE = Stage(
    summary="turn texts into token batches",
    params=Params,
    inputs=("source", "evaluation_data"),
    optional_inputs=("calibration_data", "accuracy_data"),
    needs=("transformers", "numpy"),
    shaped=True,
    internal=True,
    threads=1,
    memory_factor=0.5,
    memory_mb=300,
)


def run(call: Call, params: Params) -> Result:
    """Write evaluation.npz, and calibration.npz and pairs.npz where they are asked: int64 [texts, sequence_length].

    split.json says which texts serve what.
    """
    config = hfmodel.read_config(call.input("source"))
    call.progress(0.0, "loading the tokenizer")
    tokenizer = _load(call.input("source"), config, params.sequence_length)
    chosen = _choose(call, params)
    facts: dict[str, Any] = {
        "asked": {"calibration": params.calibration_samples, "evaluation": params.evaluation_samples},
        "used": {"calibration": len(chosen.calibration), "evaluation": len(chosen.evaluation)},
        "disjoint": chosen.disjoint,
        "note": chosen.note,
    }
    paired = _pairs(call, params, chosen, facts)
    if facts["note"]:
        call.log(facts["note"])
    for name, texts in (("calibration", chosen.calibration), ("evaluation", chosen.evaluation), (pairs.NAME, paired)):
        if texts:
            vocabulary = _vocabulary_size(config)
            facts[f"{name}_tokens"] = _write(call, tokenizer, name, texts, params.sequence_length, vocabulary)
    (call.output / SPLIT).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return Result(facts=facts)


def _pairs(call: Call, params: Params, chosen: Split, facts: dict[str, Any]) -> list[str]:
    """The distinct texts of the pairs, their index written; none, and a note among the facts, where there are none."""
    if "accuracy_data" not in call.inputs:
        return []
    folder = call.input("accuracy_data")
    asked = (params.accuracy_train_samples, params.accuracy_samples)
    premise, hypothesis = params.accuracy_fields
    there = (folder / rows.FILE).is_file()
    found = pairs.choose(folder, (premise, hypothesis), chosen.calibration, asked) if there else None
    if found is None:
        fault = "too few pairs" if there else "no pairs"
        why = f"accuracy is not judged: the data has {fault} of {premise} and {hypothesis} with a label"
        facts["note"] = f"{facts['note']}; {why}" if facts["note"] else why
        facts["without_pairs"] = not there
        return []
    texts, index = found
    index.write(call.output)
    facts["pairs"] = {"train": index.train, "judged": len(index.labels) - index.train, "asked": list(asked)}
    return texts


def _choose(call: Call, params: Params) -> Split:
    evaluation = read_texts(call.input("evaluation_data"), params.evaluation_field)
    calibration: list[str] = []
    if params.calibration_samples and "calibration_data" in call.inputs:
        calibration = read_texts(call.input("calibration_data"), params.calibration_field)
    return split(calibration, evaluation, (params.calibration_samples, params.evaluation_samples))


def _load(source: Path, config: dict[str, Any], length: int) -> Any:
    """The model's own fast tokenizer; StageError where there is none, or the model takes fewer than `length` tokens."""
    hfmodel.leave_torch_out()
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    if not any((source / name).is_file() for name in hfmodel.TOKENIZERS):
        known = ", ".join(sorted(hfmodel.TOKENIZERS))
        raise StageError(
            f"the model's folder has no tokenizer: none of {known}", hint="put it beside config.json", kind="model"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, local_files_only=True, use_fast=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise StageError(f"can't read the model's tokenizer: {_first_line(error)}", kind="model") from error
    if not tokenizer.is_fast:
        message = f"the model has no fast tokenizer ({type(tokenizer).__name__})"
        raise StageError(message, hint="save it with transformers once: tokenizer.json is then beside it", kind="model")
    if tokenizer.pad_token_id is None:
        raise StageError(
            "the model's tokenizer has no padding token, so texts can't be brought to one length", kind="model"
        )
    _refuse_longer(length, (tokenizer.model_max_length, hfmodel.longest_text(config)))
    return tokenizer


def _refuse_longer(length: int, limits: Sequence[int | None]) -> None:
    """A position beyond the model's table would read whatever lies behind it: not every runtime complains."""
    limit = min((int(value) for value in limits if value is not None and value < NO_LIMIT), default=NO_LIMIT)
    if length > limit:
        message = f"the model takes at most {limit} tokens, and the recipe asks for {length}"
        raise StageError(message, hint="lower `input.sequence_length` in the recipe", kind="model")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _vocabulary_size(config: dict[str, Any]) -> int:
    size = config.get("vocab_size")
    if not isinstance(size, int):
        raise StageError("config.json of the model names no vocab_size", kind="model")
    return size


def _write(
    call: Call, tokenizer: Any, name: str, texts: Sequence[str], length: int, vocabulary: int
) -> dict[str, float]:
    """Tokenize, check and write one split; returns mean real tokens, and shares of cut texts and unknown tokens."""
    import numpy as np

    parts: dict[str, list[NDArray[np.int64]]] = {key: [] for key in NAMES}
    cut = 0
    for start in range(0, len(texts), CHUNK):
        encoded = tokenizer(
            list(texts[start : start + CHUNK]), padding="max_length", truncation=True, max_length=length
        )
        cut += sum(1 for one in encoded.encodings if one.overflowing)
        ids = np.asarray(encoded["input_ids"], np.int64)
        parts["input_ids"].append(ids)
        parts["attention_mask"].append(np.asarray(encoded["attention_mask"], np.int64))
        # Models of one segment have no such input; zeros are what every other one takes for a single text.
        parts["token_type_ids"].append(np.asarray(encoded.get("token_type_ids", np.zeros_like(ids)), np.int64))
        call.progress(min(start + CHUNK, len(texts)) / len(texts), f"{name}: {len(texts)} texts")
    arrays = {key: np.concatenate(part) for key, part in parts.items()}
    _check_ids(arrays["input_ids"], vocabulary)
    np.savez(call.output / f"{name}.npz", allow_pickle=False, **arrays)
    return _describe(arrays, tokenizer.unk_token_id, cut)


def _check_ids(ids: NDArray[np.int64], vocabulary: int) -> None:
    """An id beyond the embedding table would read whatever lies behind it: not every runtime complains."""
    largest = int(ids.max())
    if largest >= vocabulary:
        raise StageError(
            f"the tokenizer made the token id {largest}, but the model's vocabulary has {vocabulary} entries: "
            "it is another model's tokenizer",
            hint="put the model's own tokenizer files into its folder",
            kind="model",
        )


def _describe(arrays: dict[str, NDArray[np.int64]], unknown: int | None, cut: int) -> dict[str, float]:
    real = arrays["attention_mask"] == 1
    tokens = int(real.sum())
    lost = 0 if unknown is None else int(((arrays["input_ids"] == unknown) & real).sum())
    texts = len(real)
    return {
        "mean_real_tokens": round(tokens / texts, 3),
        "truncated_share": round(cut / texts, 4),
        "unknown_token_share": round(lost / max(tokens, 1), 6),
    }
