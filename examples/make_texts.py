"""Writes examples/texts.jsonl: the texts of `make demo` and of the tests, the same bytes every time.

Each row has a `text` of its own topic and length (5 to 60 words), and a `premise` with a `hypothesis` that follows from
it (label 0), may be true (1) or contradicts it (2). The words are those of words.toml. Run it with no arguments after
changing either; a test compares.
"""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

ROWS = 480
SEED = 20_261
SHORTEST, LONGEST = 5, 60
# Words that must still be wanted before a sentence may grow by each part.
ROOM_FOR_REMARK, ROOM_FOR_OPENER, ROOM_FOR_ENDING = 12, 18, 25
OUTPUT = Path(__file__).with_name("texts.jsonl")
WORDS: Mapping[str, Any] = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))
FOLLOWS, PERHAPS, CONTRADICTS = range(3)
Item = TypeVar("Item")
Scene = Mapping[str, str]
Topic = Mapping[str, Sequence[str]]


class Dice:
    """Seeded choices through `random()` alone, the one method whose sequence Python promises to keep."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - texts, not secrets

    def pick(self, items: Sequence[Item]) -> Item:
        return items[int(self._random.random() * len(items))]

    def chance(self, share: float) -> bool:
        return self._random.random() < share


def clause(topic: Topic, dice: Dice) -> str:
    parts = [dice.pick(topic["actors"]), dice.pick(topic["acts"]), dice.pick(topic["things"])]
    return " ".join([*parts, dice.pick(topic["places"])] if dice.chance(0.6) else parts)


def text(topic: Topic, target: int, dice: Dice) -> str:
    """Prose on one topic of about `target` words: sentences are added until it is reached."""
    sentences: list[str] = []
    while sum(len(sentence.split()) for sentence in sentences) < target:
        sentence = clause(topic, dice)
        left = target - sum(len(done.split()) for done in sentences)
        if left > ROOM_FOR_REMARK:
            sentence = f"{sentence} {dice.pick(WORDS['links'])} {dice.pick(topic['remarks'])}"
        if left > ROOM_FOR_OPENER and dice.chance(0.5):
            sentence = f"{dice.pick(WORDS['openers'])}, {sentence}"
        if left > ROOM_FOR_ENDING and dice.chance(0.5):
            sentence = f"{sentence}, {dice.pick(WORDS['endings'])}"
        sentences.append(sentence[0].upper() + sentence[1:] + ".")
    return " ".join(sentences)


def fitting_text(topic: Topic, target: int, dice: Dice) -> str:
    """A text within the limits: one that overshot is drawn again."""
    while not SHORTEST <= len((drawn := text(topic, target, dice)).split()) <= LONGEST:
        pass
    return drawn


def described(people: str, what: str) -> str:
    """What people do or where they are."""
    return f"{people} {'are' if people in WORDS['groups'] else 'is'} {what}"


def hypothesis(people: str, scene: Scene, setting: str, label: int, dice: Dice) -> str:
    """A sentence on the same people, of what they do or where they are.

    The same sentence follows from one premise and contradicts another: who only looks at it can't tell, and how close
    the two sentences are decides what a classifier gets right.
    """
    others = [other for other in WORDS["scenes"] if other is not scene]
    elsewhere = [other for other in WORDS["settings"] if other != setting]
    subject = people if dice.chance(0.5) else "Some people" if people in WORDS["groups"] else "Someone"
    verb = "are" if people in WORDS["groups"] else "is"
    claim = {
        FOLLOWS: (scene["follows"], scene["doing"], setting),
        PERHAPS: (scene["perhaps"], dice.pick(others)["perhaps"], scene["perhaps"]),
        CONTRADICTS: (scene["contradicts"], dice.pick(others)["follows"], dice.pick(elsewhere)),
    }[label]
    return f"{subject} {verb} {dice.pick(claim)}."


def rows() -> Iterator[dict[str, str | int]]:
    """All rows: texts and premises each stand once; the three labels take turns."""
    dice, claims = Dice(SEED), Dice(SEED + 1)
    topics = WORDS["topics"]
    texts: set[str] = set()
    premises: set[str] = set()
    for number in range(ROWS):
        # Lengths go round from short to long, coprime with the topics, so that every topic has every length.
        target = SHORTEST + (number * 7) % (LONGEST - SHORTEST - 14)
        while (drawn := fitting_text(topics[number % len(topics)], target, dice)) in texts:
            pass
        while True:
            people, scene, setting = (dice.pick(WORDS[kind]) for kind in ("people", "scenes", "settings"))
            premise = f"{described(people, scene['doing'])} {setting}."
            if premise not in premises:
                break
        texts.add(drawn)
        premises.add(premise)
        label = number % 3
        claim = hypothesis(people, scene, setting, label, claims)
        yield {"text": drawn, "premise": premise, "hypothesis": claim, "label": label}


def content() -> str:
    """The file, whole."""
    return "".join(json.dumps(row) + "\n" for row in rows())


if __name__ == "__main__":
    OUTPUT.write_text(content(), encoding="utf-8")
