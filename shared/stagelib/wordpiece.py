"""A made-up WordPiece vocabulary of exactly the asked size, so that a synthetic model can read real text."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterator

from stagelib.api import StageError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# Blocks whose every character is a word piece: Latin with accents (composed and combining), Greek, Cyrillic,
# punctuation, super- and subscripts, currency, letterlike signs, arrows and mathematics.
BLOCKS = (
    (0x21, 0x7F),
    (0xA1, 0x180),
    (0x218, 0x21C),
    (0x300, 0x370),
    (0x370, 0x400),
    (0x400, 0x500),
    (0x2010, 0x2028),
    (0x2030, 0x205F),
    (0x2070, 0x20A0),
    (0x20A0, 0x20C1),
    (0x2100, 0x2150),
    (0x2190, 0x2300),
)
FREQUENT = (
    "de a o que e do da em um para com não uma os no se na por mais as dos como mas foi ao ele das tem à seu sua ou "
    "ser quando muito há nos já está eu também só pelo pela até isso ela entre era depois sem mesmo aos ter seus quem "
    "nas me esse eles você essa num nem suas meu às minha the of and to in is was he for it with as his on be at by "
    "not are but from or have an they which one you were her all she there would their we him been has when who"
)
ONSETS = "b c d f g h j l m n p q r s t v x z br bl cr cl ch dr fr fl gr gl lh nh pr pl st tr th sh"
NUCLEI = "a e i o u á é í ó ú â ê ô ã õ ai ei oi ui au eu ou ão ea oo ia io"
CODAS = ("", "s", "r", "m", "n", "l", "t", "d", "z")


def vocabulary(size: int) -> list[str]:
    """`size` distinct pieces: special tokens, every character of the blocks both ways, words, then syllables.

    StageError where `size` leaves no room for the characters, without which text would become [UNK].
    """
    fixed = list(dict.fromkeys((*SPECIAL, *_characters())))
    if size < len(fixed):
        raise StageError(f"a vocabulary of {size} is too small: special tokens and characters alone are {len(fixed)}")
    filled = dict.fromkeys(fixed)
    for piece in itertools.chain(FREQUENT.split(), _syllables()):
        if len(filled) == size:
            break
        filled[piece] = None
    if len(filled) < size:
        raise StageError(f"a vocabulary of {size} is too large: only {len(filled)} pieces can be made")
    return list(filled)


def _characters() -> Iterator[str]:
    for first, end in BLOCKS:
        for code in range(first, end):
            character = chr(code)
            # The tokenizer drops control characters and splits at spaces before it looks anything up.
            if unicodedata.category(character)[0] not in "CZ":
                yield character
                yield "##" + character


def _syllables() -> Iterator[str]:
    """Pieces in a fixed order: single syllables first, inside and at the start of a word, then pairs of them."""
    open_syllables = [onset + nucleus for nucleus in NUCLEI.split() for onset in ONSETS.split()]
    singles = [syllable + coda for coda in CODAS for syllable in open_syllables]
    for single in singles:
        yield single
        yield "##" + single
    for first, second in itertools.product(open_syllables, open_syllables):
        yield first + second
