"""The demo's texts are what their generator writes, and serve every recipe."""

from __future__ import annotations

import json
from collections import Counter

from examples.make_texts import LONGEST, OUTPUT, ROWS, SHORTEST, content


def test_the_committed_texts_are_fresh() -> None:
    assert OUTPUT.read_text(encoding="utf-8") == content(), "run: python examples/make_texts.py"


def test_the_texts_are_distinct_and_of_every_length() -> None:
    rows = [json.loads(line) for line in content().splitlines()]
    lengths = [len(row["text"].split()) for row in rows]
    assert len({row["text"] for row in rows}) == len({row["premise"] for row in rows}) == len(rows) == ROWS
    assert (SHORTEST <= min(lengths) <= 8, 50 <= max(lengths) <= LONGEST) == (True, True)
    assert Counter(row["label"] for row in rows) == {0: ROWS // 3, 1: ROWS // 3, 2: ROWS // 3}
    assert all(row["hypothesis"] for row in rows)
