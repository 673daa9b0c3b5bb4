"""Which texts calibrate and which evaluate: never the same ones, unless there is a single text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Split:
    """The chosen texts, in the order of their data; `note` says in words where less than asked was possible."""

    calibration: tuple[str, ...]
    evaluation: tuple[str, ...]
    disjoint: bool
    note: str = ""


def split(calibration: Sequence[str], evaluation: Sequence[str], asked: tuple[int, int]) -> Split:
    """Choose up to `asked` = (calibration, evaluation) texts from two lists of distinct texts, which may share some.

    Calibration takes its first texts and evaluation its first other ones. Where there are too few for both, both
    shrink in proportion to what was asked, each keeping at least one.
    """
    if not calibration or not asked[0]:
        chosen_only = tuple(evaluation[: asked[1]])
        short = f"the data has {len(evaluation)} distinct texts, and {asked[1]} were asked for evaluation"
        return Split(
            calibration=(), evaluation=chosen_only, disjoint=True, note=short if len(chosen_only) < asked[1] else ""
        )
    every = len(set(calibration) | set(evaluation))
    if every == 1:
        note = "there is one text only: it serves calibration and evaluation, so the similarity says little"
        return Split(calibration=tuple(calibration), evaluation=tuple(evaluation), disjoint=False, note=note)
    most = (min(asked[0], len(calibration)), min(asked[1], len(evaluation)))
    counts = most if sum(most) <= every else _in_proportion(every, most, asked)
    chosen = _calibration(calibration, set(evaluation), counts)
    rest = [text for text in evaluation if text not in set(chosen)]
    note = "" if counts == asked else _words(counts, asked, every)
    return Split(calibration=tuple(chosen), evaluation=tuple(rest[: counts[1]]), disjoint=True, note=note)


def _in_proportion(every: int, most: tuple[int, int], asked: tuple[int, int]) -> tuple[int, int]:
    """Shares of `every` texts in the ratio that was asked, within what each list can give, at least one each."""
    ideal = round(every * asked[0] / sum(asked))
    calibration = min(max(ideal, 1, every - most[1]), most[0], every - 1)
    return calibration, every - calibration


def _calibration(texts: Sequence[str], shared_with: set[str], counts: tuple[int, int]) -> list[str]:
    """The first texts, but never so many shared ones that evaluation could not have its count."""
    spare = len(shared_with) - counts[1]
    chosen: list[str] = []
    for text in texts:
        if len(chosen) == counts[0]:
            break
        if text in shared_with:
            if spare == 0:
                continue
            spare -= 1
        chosen.append(text)
    return chosen


def _words(counts: tuple[int, int], asked: tuple[int, int], every: int) -> str:
    used = f"{counts[0]} of {asked[0]} calibrate and {counts[1]} of {asked[1]} others evaluate"
    return f"the data has {every} distinct texts: {used}"
