"""Writes examples/texts.jsonl: the texts of `make demo` and of the tests, the same bytes every time.

Each row has a `text` of its own topic and length (5 to 60 words), and a `premise` with a `hypothesis` that follows from
it (label 0), may be true (1) or contradicts it (2). Run it with no arguments after changing it; a test compares.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

ROWS = 480
SEED = 20_261
SHORTEST, LONGEST = 5, 60
# Words that must still be wanted before a sentence may grow by each part.
ROOM_FOR_REMARK, ROOM_FOR_OPENER, ROOM_FOR_ENDING = 12, 18, 25
OUTPUT = Path(__file__).with_name("texts.jsonl")
Item = TypeVar("Item")


@dataclass(frozen=True)
class Topic:
    """Words that belong together: who acts, what is done in the past tense, to what, where, and what was noticed."""

    actors: tuple[str, ...]
    acts: tuple[str, ...]
    things: tuple[str, ...]
    places: tuple[str, ...]
    remarks: tuple[str, ...]


def words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split("|"))


TOPICS = (
    Topic(
        words(
            "the pastry cook | an apprentice baker | the owner of the canteen | two night-shift millers | "
            "a retired chef"
        ),
        words("kneaded | weighed | salted | tasted | set aside | burned | wrapped in linen"),
        words("a stiff rye dough | forty almond tarts | the lentil broth | a tray of figs | the last jar of honey"),
        words("in the back kitchen | under the copper hood | beside the brick oven | at the market stall"),
        words("the crust cracked along one side | cinnamon covered the smell of smoke | nobody had ordered dessert"),
    ),
    Topic(
        words("the harbour pilot | a crew of six | the ferry captain | an old net mender | the customs officer"),
        words("steered | anchored | inspected | repaired | unloaded | lost sight of | signalled to"),
        words("a rusted trawler | the mail boat | three barges of gravel | a yacht without lights | the northern buoy"),
        words("off the western pier | in the fog | near the lighthouse | along the tidal channel"),
        words(
            "the tide turned earlier than the tables said | gulls followed for an hour | "
            "the rope was older than the boat"
        ),
    ),
    Topic(
        words("the signalman | a conductor named Ines | railway engineers | the freight planner | a ticket inspector"),
        words("delayed | rerouted | counted | uncoupled | cleaned | announced | photographed"),
        words("the sleeper train | eleven empty wagons | a diesel shunter | the morning express | the replacement bus"),
        words("at the junction | on the viaduct | in the marshalling yard | between two tunnels"),
        words("the timetable had been printed with the wrong year | snow closed the pass | every window was open"),
    ),
    Topic(
        words(
            "the night nurse | a young surgeon | the hospital's pharmacist | two paramedics | the visiting specialist"
        ),
        words("examined | bandaged | recorded | ruled out | ordered | treated | explained"),
        words("a sprained wrist | the patient's blood pressure | a rare allergy | the second dose | an unclear X-ray"),
        words("on the third ward | in the emergency room | behind a green curtain | during the evening round"),
        words("the fever had already fallen | the relatives waited outside | the laboratory answered within minutes"),
    ),
    Topic(
        words(
            "the second violinist | a choir from the valley | the sound technician | our piano tuner | "
            "the young conductor"
        ),
        words("rehearsed | tuned | recorded | transposed | interrupted | whistled | rewrote"),
        words("the slow movement | a folk song in a minor key | the opening bars | an unfinished sonata | the encore"),
        words("in the empty hall | below the organ loft | on an open-air stage | in a borrowed studio"),
        words("the drums came in too early | the audience stood up | rain could be heard through the microphones"),
    ),
    Topic(
        words("a volcanologist | the survey team | geology students | the mine's safety officer | a fossil collector"),
        words("mapped | drilled through | labelled | sampled | measured | misjudged | described"),
        words("a layer of basalt | the quartz vein | an unstable slope | the glacial moraine | a bed of limestone"),
        words("on the southern flank | in the dry riverbed | below the ridge | at the edge of the crater"),
        words("the seismograph moved twice | the rock was younger than expected | dust made the compass useless"),
    ),
    Topic(
        words("the central bank | a small insurer | the auditor | household lenders | the pension fund's trustees"),
        words("raised | postponed | questioned | published | underestimated | refinanced | withdrew"),
        words(
            "the interest rate | a bond of nine years | the quarterly figures | its forecast of inflation | "
            "a bridge loan"
        ),
        words("after a long meeting | before the exchange opened | without any comment | under new rules"),
        words("shares barely moved | the currency fell against its neighbours | analysts had expected the opposite"),
    ),
    Topic(
        words("the goalkeeper | a marathon runner | the youth coach | both rowing teams | the oldest cyclist"),
        words("trained for | won | abandoned | protested against | repeated | dreamed of | nearly missed"),
        words("the regional final | a race across the moor | the penalty | an indoor record | the relay"),
        words("in front of nine spectators | on a flooded pitch | in the last minute | at high altitude"),
        words("the referee looked at the clock | a shoe came apart | the favourite finished fourth"),
    ),
    Topic(
        words(
            "the database administrator | a team of testers | the intern | an open-source maintainer | "
            "the network engineer"
        ),
        words("restarted | profiled | reverted | documented | encrypted | benchmarked | deleted by mistake"),
        words("the scheduler | a memory leak | the release branch | two thousand log files | an outdated driver"),
        words("on the staging cluster | during the outage | shortly before midnight | in a separate container"),
        words("the second run took half as long | nobody had kept a backup | the alarm came from another service"),
    ),
    Topic(
        words(
            "the constitutional court | a public defender | the city council | the tenants' lawyer | a retired judge"
        ),
        words("overturned | drafted | adjourned | cited | rejected | translated | signed"),
        words("the zoning decision | a petition of nine pages | the appeal | an old treaty | the amended contract"),
        words("by a narrow majority | in a closed session | after the summer recess | in the district court"),
        words("the dissent was longer than the ruling | both sides claimed success | the archive held no copy"),
    ),
    Topic(
        words(
            "the observatory's director | an amateur astronomer | the probe | two doctoral students | the antenna crew"
        ),
        words("observed | catalogued | lost contact with | simulated | photographed | tracked | recalculated"),
        words("a faint comet | the rings of a distant planet | a double star | the solar corona | a passing asteroid"),
        words("through thin clouds | from the southern desert | over eleven nights | in the infrared"),
        words("the signal repeated every nine hours | the mirror had been polished again | dawn came too soon"),
    ),
    Topic(
        words(
            "the beekeeper | a forester with two dogs | the botanical garden | seed savers | the neighbours' children"
        ),
        words("planted | pruned | watered | counted | transplanted | harvested | fenced in"),
        words("a row of quince trees | the medlar hedge | wild orchids | six beehives | the pumpkin patch"),
        words("along the stone wall | in heavy clay | after the first frost | on the sunny terrace"),
        words("slugs had eaten the labels | the soil stayed dry under the leaves | blossoms opened a month early"),
    ),
    Topic(
        words(
            "the history teacher | an archivist | the school's caretaker | evening students | a travelling librarian"
        ),
        words("borrowed | catalogued | read aloud | misplaced | translated | illustrated | defended"),
        words(
            "a diary from the siege | the oldest atlas | thirty exam papers | a handwritten dictionary | "
            "the class register"
        ),
        words("in the reading room | during the strike | between two lessons | in a village without electricity"),
        words("one page was missing | the ink had turned brown | the youngest pupil asked the best question"),
    ),
    Topic(
        words(
            "the weather service | a mountain guide | the river authority | farmers in the delta | "
            "the airport's forecaster"
        ),
        words("warned of | measured | underestimated | reported | waited for | discussed | compared"),
        words(
            "gusts from the north | a week of drizzle | the flood crest | black ice | "
            "the longest heat wave since records began"
        ),
        words("on the high plateau | across three provinces | before sunrise | along the coast"),
        words("the gauge had frozen | roads stayed open | the barometer fell all afternoon"),
    ),
)
OPENERS = words(
    "Yesterday | According to the report | As far as anyone remembers | Late in the autumn | To everybody's surprise | "
    "On the second attempt | For reasons that were never explained | Despite the noise | Without much ceremony"
)
LINKS = words("and | but | although | because | while | so that in the end | even though | until")
ENDINGS = words(
    "which changed the plan for the whole week | as the minutes of the meeting show | "
    "to the relief of those who had to "
    "pay for it | a detail that most accounts leave out | and the same thing happened again the following spring | "
    "though opinions about it still differ"
)


@dataclass(frozen=True)
class Scene:
    """A pair of sentences: what someone is doing, what follows from it, what may be so, what can't be."""

    doing: str
    follows: str
    perhaps: str
    contradicts: str


PEOPLE = words(
    "A man in a blue coat | A woman with grey hair | Two teenagers | A tall mechanic | "
    "Three tourists | A girl with a red "
    "scarf | An elderly couple | A group of dancers | A boy on crutches | Several students | "
    "A courier | A street painter | "
    "A young father | Four musicians | A gardener | A bearded cook"
)
PLURAL = frozenset(
    {"Two teenagers", "Three tourists", "An elderly couple", "A group of dancers", "Several students", "Four musicians"}
)
SETTINGS = words(
    "in front of the station | near the old fountain | on a crowded square | under a bridge | "
    "beside a parked van | at the "
    "edge of the park | in a quiet courtyard | by the river | on the steps of the museum | behind the market hall"
)
SCENES = (
    Scene("eating noodles from a paper box", "eating", "on a lunch break", "sleeping in a bed"),
    Scene(
        "repairing a bicycle with a borrowed wrench", "working with a tool", "late for an appointment", "flying a plane"
    ),
    Scene("reading a newspaper aloud", "reading", "looking for a job", "swimming in the sea"),
    Scene("feeding bread to a flock of pigeons", "near some birds", "fond of animals", "alone in a cellar"),
    Scene("carrying a ladder across the pavement", "carrying something", "about to clean windows", "empty-handed"),
    Scene("playing a slow tune on an accordion", "making music", "collecting money for a trip", "completely silent"),
    Scene("laughing at a message on a telephone", "amused", "reading a joke from a cousin", "crying over a letter"),
    Scene("drawing the skyline with charcoal", "drawing", "preparing for an exhibition", "typing at a desk"),
    Scene("waiting for a bus in the rain", "outdoors in wet weather", "without an umbrella", "indoors beside a fire"),
    Scene("selling oranges from a wooden cart", "selling fruit", "earning more than last year", "giving a lecture"),
)


class Dice:
    """Seeded choices through `random()` alone, the one method whose sequence Python promises to keep."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - texts, not secrets

    def pick(self, items: Sequence[Item]) -> Item:
        return items[int(self._random.random() * len(items))]

    def chance(self, share: float) -> bool:
        return self._random.random() < share


def clause(topic: Topic, dice: Dice) -> str:
    parts = [dice.pick(topic.actors), dice.pick(topic.acts), dice.pick(topic.things)]
    return " ".join([*parts, dice.pick(topic.places)] if dice.chance(0.6) else parts)


def text(topic: Topic, target: int, dice: Dice) -> str:
    """Prose on one topic of about `target` words: sentences are added until it is reached."""
    sentences: list[str] = []
    while sum(len(sentence.split()) for sentence in sentences) < target:
        sentence = clause(topic, dice)
        left = target - sum(len(done.split()) for done in sentences)
        if left > ROOM_FOR_REMARK:
            sentence = f"{sentence} {dice.pick(LINKS)} {dice.pick(topic.remarks)}"
        if left > ROOM_FOR_OPENER and dice.chance(0.5):
            sentence = f"{dice.pick(OPENERS)}, {sentence}"
        if left > ROOM_FOR_ENDING and dice.chance(0.5):
            sentence = f"{sentence}, {dice.pick(ENDINGS)}"
        sentences.append(sentence[0].upper() + sentence[1:] + ".")
    return " ".join(sentences)


def fitting_text(topic: Topic, target: int, dice: Dice) -> str:
    """A text within the limits: one that overshot is drawn again."""
    while not SHORTEST <= len((drawn := text(topic, target, dice)).split()) <= LONGEST:
        pass
    return drawn


def pair(number: int, dice: Dice) -> tuple[str, str, int]:
    """Premise, hypothesis and label; the three labels take turns."""
    people, scene, label = dice.pick(PEOPLE), dice.pick(SCENES), number % 3
    verb, someone = ("are", "Some people are") if people in PLURAL else ("is", "Someone is")
    premise = f"{people} {verb} {scene.doing} {dice.pick(SETTINGS)}."
    claim = (scene.follows, scene.perhaps, scene.contradicts)[label]
    subject = someone if label == 0 else f"{people} {verb}"
    return premise, f"{subject} {claim}.", label


def rows() -> Iterator[dict[str, str | int]]:
    """All rows: texts and premises each stand once."""
    dice = Dice(SEED)
    texts: set[str] = set()
    premises: set[str] = set()
    for number in range(ROWS):
        # Lengths go round from short to long, coprime with the topics, so that every topic has every length.
        target = SHORTEST + (number * 7) % (LONGEST - SHORTEST - 14)
        while (drawn := fitting_text(TOPICS[number % len(TOPICS)], target, dice)) in texts:
            pass
        while (made := pair(number, dice))[0] in premises:
            pass
        texts.add(drawn)
        premises.add(made[0])
        yield {"text": drawn, "premise": made[0], "hypothesis": made[1], "label": made[2]}


def content() -> str:
    """The file, whole."""
    return "".join(json.dumps(row) + "\n" for row in rows())


if __name__ == "__main__":
    OUTPUT.write_text(content(), encoding="utf-8")
