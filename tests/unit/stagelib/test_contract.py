"""What the contract reads from a model's folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stagelib.api import StageError
from stagelib.contract import Reading, copy_tokenizer, read_padding, read_pooling


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def test_pooling_is_the_mean_where_nothing_is_said(tmp_path: Path) -> None:
    assert read_pooling(tmp_path) == Reading(mode="mean", normalize=False)


def test_pooling_follows_sentence_transformers(tmp_path: Path) -> None:
    write(tmp_path / "1_Pooling" / "config.json", {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    write(tmp_path / "modules.json", [{"type": "sentence_transformers.models.Normalize"}])
    assert read_pooling(tmp_path) == Reading(mode="cls", normalize=True)


def test_a_pooling_that_is_not_served_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "1_Pooling" / "config.json", {"pooling_mode_lasttoken": True})
    with pytest.raises(StageError, match="pooling_mode_lasttoken"):
        read_pooling(tmp_path)


def test_padding_takes_the_tokenizer_s_own_token(tmp_path: Path) -> None:
    write(tmp_path / "tokenizer_config.json", {"pad_token": {"content": "<pad>"}, "padding_side": "left"})
    write(tmp_path / "tokenizer.json", {"added_tokens": [{"id": 1, "content": "<pad>"}]})
    assert read_padding(tmp_path, 128) == {"max_length": 128, "side": "left", "token": "<pad>", "token_id": 1}


def test_a_vocabulary_file_gives_the_id_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("a\nb\n[PAD]\n")
    assert read_padding(tmp_path, 8)["token_id"] == 2


def test_a_folder_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "config.json", {})
    with pytest.raises(StageError) as error:
        copy_tokenizer(tmp_path, tmp_path / "out")
    assert error.value.kind == "model"


def test_json_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(StageError, match=r"tokenizer_config\.json"):
        read_padding(tmp_path, 8)
