"""Batches of tokens, cut to what a model takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stagelib import batches
from stagelib.api import StageError

ROWS = {
    "input_ids": np.array([[1, 2, 3, 0], [0, 0, 4, 5]], np.int64),
    "attention_mask": np.array([[1, 1, 1, 0], [0, 0, 1, 1]], np.int64),
}


def test_taking_goes_round_at_the_end() -> None:
    assert batches.take(ROWS, 1, 3)["input_ids"][:, 2].tolist() == [4, 3, 4]


def test_a_last_batch_is_filled_from_the_first_rows_alone() -> None:
    assert batches.take(batches.first(ROWS, 1), 0, 2)["input_ids"].tolist() == [[1, 2, 3, 0]] * 2


def test_trimming_cuts_padding_on_either_side() -> None:
    assert batches.trimmed(ROWS, 0)["input_ids"].tolist() == [[1, 2, 3]]
    assert batches.trimmed(ROWS, 1)["input_ids"].tolist() == [[4, 5]]


def test_only_padding_after_every_text_is_left_off() -> None:
    assert batches.without_tail(batches.take(ROWS, 0, 1))["input_ids"].tolist() == [[1, 2, 3]]
    assert batches.without_tail(batches.take(ROWS, 1, 1))["input_ids"].tolist() == [[0, 0, 4, 5]]
    nothing = {name: np.zeros_like(array) for name, array in ROWS.items()}
    assert batches.without_tail(nothing)["input_ids"].shape == (2, 1)


def test_a_model_without_token_types_gets_none() -> None:
    assert list(batches.feed(ROWS | {"token_type_ids": ROWS["input_ids"]}, ["attention_mask", "input_ids"])) == [
        "attention_mask",
        "input_ids",
    ]


def test_an_input_that_batches_lack_is_named() -> None:
    with pytest.raises(StageError, match="position_ids"):
        batches.feed(ROWS, ["input_ids", "position_ids"])


def test_missing_and_empty_batches_are_data_errors(tmp_path: Path) -> None:
    np.savez(tmp_path / batches.EVALUATION, input_ids=np.zeros((0, 4), np.int64))
    for file in (batches.CALIBRATION, batches.EVALUATION):
        with pytest.raises(StageError) as error:
            batches.read_rows(tmp_path, file)
        assert error.value.kind == "data"


def test_fewer_calibration_texts_than_asked_are_noted() -> None:
    assert "note" not in batches.calibration_facts(64, 64)
    facts = batches.calibration_facts(3, 64)
    assert (facts["calibration_samples"], facts["calibration_samples_asked"]) == (3, 64)
    assert facts["note"] == "the data holds 3 calibration texts, and 64 were asked for"


def test_the_digest_changes_with_a_value() -> None:
    changed = {name: array.copy() for name, array in ROWS.items()}
    changed["input_ids"][0, 0] = 9
    assert batches.digest(ROWS) == batches.digest(dict(reversed(ROWS.items()))) != batches.digest(changed)
