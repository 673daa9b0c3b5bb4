"""Evaluation never uses calibration's texts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stagelib.split import split

TEXTS = st.lists(st.sampled_from([f"text {number}" for number in range(40)]), unique=True, min_size=1)
COUNTS = st.tuples(st.integers(1, 60), st.integers(1, 60))


@given(TEXTS, TEXTS, COUNTS)
def test_disjoint_and_as_many_as_can_be(calibration: list[str], evaluation: list[str], asked: tuple[int, int]) -> None:
    chosen = split(calibration, evaluation, asked)
    every = {*calibration, *evaluation}
    assert set(chosen.calibration) <= set(calibration)
    assert set(chosen.evaluation) <= set(evaluation)
    assert 1 <= len(chosen.calibration) <= asked[0]
    assert 1 <= len(chosen.evaluation) <= asked[1]
    if len(every) == 1:
        assert not chosen.disjoint
        assert "one text" in chosen.note
        return
    assert chosen.disjoint
    assert not {*chosen.calibration} & {*chosen.evaluation}
    most = (min(asked[0], len(calibration)), min(asked[1], len(evaluation)))
    assert len(chosen.calibration) + len(chosen.evaluation) == min(sum(most), len(every))
    assert bool(chosen.note) == ((len(chosen.calibration), len(chosen.evaluation)) != asked)
    assert list(chosen.calibration) == [text for text in calibration if text in set(chosen.calibration)]


def test_the_same_rows_serve_calibration_first() -> None:
    texts = [f"text {number}" for number in range(10)]
    assert split(texts, texts, (6, 3)).calibration == tuple(texts[:6])
    assert split(texts, texts, (6, 3)).evaluation == tuple(texts[6:9])


def test_too_few_rows_shrink_both_in_proportion() -> None:
    texts = [f"text {number}" for number in range(8)]
    chosen = split(texts, texts, (300, 100))
    assert (len(chosen.calibration), len(chosen.evaluation)) == (6, 2)
    assert "8 distinct texts" in chosen.note
    assert "6 of 300" in chosen.note


def test_without_calibration_all_evaluate() -> None:
    chosen = split([], ["a", "b"], (0, 2))
    assert (chosen.calibration, chosen.evaluation, chosen.disjoint, chosen.note) == ((), ("a", "b"), True, "")
    assert "2 distinct texts" in split([], ["a", "b"], (0, 3)).note
