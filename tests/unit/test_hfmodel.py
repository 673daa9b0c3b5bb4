"""Which files of a repository make a model, and which models are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stagelib.api import StageError
from stagelib.hfmodel import (
    longest_text,
    missing_files,
    read_config,
    refuse_remote_code,
    refuse_without_weights,
    wanted,
)

SMALL = ["config.json", "tokenizer.json"]


def test_code_and_pickles_are_never_wanted() -> None:
    more = [
        "model.safetensors",
        "pytorch_model.bin",
        "modeling.py",
        "onnx/model.onnx",
        "1_Pooling/config.json",
        "x.safetensors",
    ]
    assert wanted([*SMALL, *more]) == ["1_Pooling/config.json", "config.json", "model.safetensors", "tokenizer.json"]


def test_shards_are_wanted_where_there_is_no_whole_file() -> None:
    sharded = [
        "model.safetensors.index.json",
        "model-1-of-2.safetensors",
        "model-2-of-2.safetensors",
        "sub/model-x.safetensors",
    ]
    assert wanted([*SMALL, *sharded]) == sorted([*SMALL, *sharded[:3]])
    assert "model-1-of-2.safetensors" not in wanted([*SMALL, *sharded, "model.safetensors"])


def test_a_repository_without_safetensors_is_refused_with_a_way_out() -> None:
    with pytest.raises(StageError, match=r"it has pytorch_model\.bin") as caught:
        refuse_without_weights([*SMALL, "pytorch_model.bin"], "a/b", "main")
    assert "refs/pr/N" in caught.value.hint
    assert "--model=<folder>" in caught.value.hint
    with pytest.raises(StageError, match=r"no config\.json"):
        refuse_without_weights(["model.safetensors"], "a/b", "main")
    refuse_without_weights([*SMALL, "model.safetensors.index.json"], "a/b", "main")


def test_what_a_folder_lacks(tmp_path: Path) -> None:
    assert missing_files(tmp_path) == ["config.json", "model.safetensors", "tokenizer.json"]
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    assert missing_files(tmp_path) == ["model-1.safetensors"]
    (tmp_path / "model-1.safetensors").touch()
    assert missing_files(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "words"), [("{", "is not JSON"), ("[]", "not a JSON object"), ("\udcff", "is not JSON")]
)
def test_a_broken_configuration(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(StageError, match=words) as caught:
        read_config(tmp_path)
    assert caught.value.kind == "model"


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"model_type": "bert", "max_position_embeddings": 512, "pad_token_id": 0}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514}, 512),
        ({"model_type": "mpnet", "max_position_embeddings": 514, "pad_token_id": None}, 512),
        ({"model_type": "xlnet"}, None),
        ({"model_type": "deberta", "max_position_embeddings": -1}, None),
    ],
)
def test_how_many_tokens_the_positions_serve(config: dict[str, object], tokens: int | None) -> None:
    assert longest_text(config) == tokens


def test_remote_code_is_refused_for_types_of_its_own() -> None:
    refuse_remote_code({"model_type": "mine"})
    with pytest.raises(StageError, match="remote code is never run"):
        refuse_remote_code({"model_type": "bert", "auto_map": {"AutoModel": "mine.Model"}})
