"""Pooling and cosine."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stagelib.api import StageError
from stagelib.similarity import cosines, embed, listed, normalized, pool, summarize, unrelated_pairs

HIDDEN = np.array([[[1.0, 2.0], [3.0, 4.0], [9.0, -9.0]]])
RIGHT_PADDED = np.array([[1, 1, 0]])
LEFT_PADDED = np.array([[0, 1, 1]])


def test_the_mean_leaves_padding_out() -> None:
    assert pool(HIDDEN, RIGHT_PADDED, "mean").tolist() == [[2.0, 3.0]]


def test_padding_that_is_not_a_number_does_no_harm() -> None:
    hidden = HIDDEN.copy()
    hidden[0, 2] = np.nan
    assert pool(hidden, RIGHT_PADDED, "mean").tolist() == [[2.0, 3.0]]


def test_cls_is_the_first_token_of_the_text_wherever_padding_stands() -> None:
    assert pool(HIDDEN, RIGHT_PADDED, "cls").tolist() == [[1.0, 2.0]]
    assert pool(HIDDEN, LEFT_PADDED, "cls").tolist() == [[3.0, 4.0]]


def test_the_maximum_leaves_padding_out() -> None:
    assert pool(HIDDEN, RIGHT_PADDED, "max").tolist() == [[3.0, 4.0]]


def test_a_row_of_padding_alone_is_zero() -> None:
    for pooling in ("mean", "max"):
        assert pool(HIDDEN, np.array([[0, 0, 0]]), pooling).tolist() == [[0.0, 0.0]]


def test_cosine_knows_same_opposite_and_orthogonal() -> None:
    left = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    right = np.array([[2.0, 0.0], [-3.0, 0.0], [0.0, 5.0]])
    assert cosines(left, right).tolist() == [1.0, -1.0, 0.0]


def test_a_text_that_is_not_a_number_stays_so_whatever_the_pooling() -> None:
    hidden = HIDDEN.copy()
    hidden[0, 0] = np.nan
    for pooling in ("mean", "max", "cls"):
        assert np.isnan(pool(hidden, RIGHT_PADDED, pooling)).all()


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_one_text_that_is_not_finite_leaves_no_figure_to_pass_a_gate(broken: float) -> None:
    scores = cosines(np.array([[1.0, 1.0], [broken, 1.0]]), np.array([[1.0, 1.0], [1.0, 1.0]]))
    found = summarize(scores)
    assert np.isnan(found["mean"])
    assert np.isnan(found["min"])
    assert found["per_sample"] == [1.0, None]


def test_a_vector_as_json_has_null_for_what_json_lacks() -> None:
    assert json.dumps(listed(np.array([1.5, np.nan, -np.inf])), allow_nan=False) == "[1.5, null, null]"
    assert listed(np.array([1, 2])) == [1, 2]


def test_normalized_rows_have_length_one_and_zero_stays_zero() -> None:
    rows = normalized(np.array([[3.0, 4.0], [0.0, 0.0]]))
    assert np.allclose(np.linalg.norm(rows, axis=1), [1.0, 0.0])


def test_unrelated_pairs_need_two() -> None:
    assert unrelated_pairs(np.array([[1.0, 0.0]])) is None
    assert unrelated_pairs(np.array([[1.0, 0.0], [0.0, 1.0]])) == 0.0


def test_a_model_that_gives_vectors_is_taken_as_it_is() -> None:
    assert embed({"pooled": np.array([[1.0, 2.0]])}, RIGHT_PADDED).tolist() == [[1.0, 2.0]]


def test_no_output_that_fits_is_an_error() -> None:
    with pytest.raises(StageError, match="no output"):
        embed({"score": np.array([1.0])}, RIGHT_PADDED)
