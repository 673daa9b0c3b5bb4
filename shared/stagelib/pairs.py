"""Labelled pairs of texts, for the probe that tells accuracy: which rows of the batches belong together."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stagelib.rows import LABEL, read_rows

NAME = "pairs"
FILE = f"{NAME}.npz"
"""Token batches of the distinct texts of all pairs, [texts, sequence_length] each."""
INDEX = f"{NAME}.json"
"""Each pair's rows in that file, and its label; the first ones train the probe."""
FEWEST = 2
"""Below so many pairs, on either side, nothing can be computed. What few pairs are worth, the gate says."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Pairs by their rows among the distinct texts; the first `train` of them train the probe."""

    premise: tuple[int, ...]
    hypothesis: tuple[int, ...]
    labels: tuple[int, ...]
    train: int

    def write(self, folder: Path) -> None:
        (folder / INDEX).write_text(json.dumps(asdict(self)) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Pairs:
        raw: dict[str, Any] = json.loads((folder / INDEX).read_text())
        listed = {name: tuple(raw[name]) for name in ("premise", "hypothesis", "labels")}
        return cls(**listed, train=raw["train"])


def choose(
    folder: Path, fields: tuple[str, str], used: Iterable[str], asked: tuple[int, int]
) -> tuple[list[str], Pairs] | None:
    """The first pairs without a text that calibrated, and their distinct texts; None where there are too few.

    `asked` = (to train, to judge); where there are fewer, both shrink in proportion. A label below zero means that
    nobody gave one.
    """
    spent = set(used)
    texts: dict[str, int] = {}
    found: list[tuple[int, int, int]] = []
    for row in read_rows(folder, (*fields, LABEL)):
        premise, hypothesis, label = row[fields[0]].strip(), row[fields[1]].strip(), row[LABEL]
        if not premise or not hypothesis or label < 0 or premise in spent or hypothesis in spent:
            continue
        found.append((texts.setdefault(premise, len(texts)), texts.setdefault(hypothesis, len(texts)), label))
        if len(found) == sum(asked):
            break
    train = len(found) * asked[0] // sum(asked)
    if min(train, len(found) - train) < FEWEST or len({label for *_, label in found[:train]}) == 1:
        return None
    premises, hypotheses, labels = zip(*found, strict=True)
    return list(texts), Pairs(premise=premises, hypothesis=hypotheses, labels=labels, train=train)
