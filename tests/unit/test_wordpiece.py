"""The made-up vocabulary has exactly the asked size and every character of European text."""

from __future__ import annotations

import pytest

from stagelib.api import StageError
from stagelib.wordpiece import SPECIAL, vocabulary

SIZE = 29794


def test_distinct_pieces_of_exactly_the_size() -> None:
    pieces = vocabulary(SIZE)
    assert len(pieces) == len(set(pieces)) == SIZE
    assert tuple(pieces[: len(SPECIAL)]) == SPECIAL
    assert pieces == vocabulary(SIZE)
    assert not any(piece.isspace() or not piece or "\n" in piece for piece in pieces)


def test_every_letter_stands_at_the_start_and_inside_of_words() -> None:
    pieces = set(vocabulary(SIZE))
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789áâãàçéêíóôõúüÁÂÃÀÇÉÊÍÓÔÕÚÜßñ€“”…°ºªжλ"
    assert [letter for letter in letters if letter not in pieces or f"##{letter}" not in pieces] == []


def test_sizes_that_can_not_be_made() -> None:
    with pytest.raises(StageError, match="too small"):
        vocabulary(100)
    with pytest.raises(StageError, match="too large"):
        vocabulary(10_000_000)
