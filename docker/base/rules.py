"""Rules of what is left out of an image: TOML files of four kinds, each with globs under site-packages and a why.

`[[leave_out]]`: files and folders that go. `[[no_symbols]]`: libraries that lose what only a debugger reads.
`[[same_library]]`: later paths are copies of the first. `[[no_bytecode]]`: sources that stay, without compiled copies.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

KINDS = ("leave_out", "no_symbols", "same_library", "no_bytecode")
MB = 1e6


class RefusedError(Exception):
    """A rule that can't be meant so."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Globs under site-packages, less those of `but`, and why."""

    why: str
    paths: list[str]
    but: list[str] = field(default_factory=list)

    def matches(self, top: Path) -> list[Path]:
        """What there is of it, in a fixed order."""
        spared = set(found(top, self.but))
        return [path for path in found(top, self.paths) if path not in spared]


def read(path: Path) -> dict[str, list[Rule]]:
    """The rules of a file, by kind."""
    try:
        value = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise RefusedError(f"{path.name}: {error}") from None
    if unknown := set(value) - set(KINDS):
        raise RefusedError(f"{path.name}: {', '.join(sorted(unknown))} is no kind of rule")
    try:
        rules = {kind: [Rule(**rule) for rule in value.get(kind, [])] for kind in KINDS}
    except TypeError as error:
        raise RefusedError(f"{path.name}: {error}") from None
    for rule in (rule for kind in KINDS for rule in rules[kind]):
        for pattern in (*rule.paths, *rule.but):
            if pattern.startswith("/") or ".." in pattern.split("/") or set(pattern) <= set("*/"):
                raise RefusedError(f"{path.name}: {pattern!r} leads out of site-packages, or names all of it")
    return rules


def found(top: Path, patterns: Iterable[str]) -> list[Path]:
    """What the patterns name, in a fixed order; what wheels say of themselves apart."""
    every = {path for pattern in patterns for path in top.glob(pattern)}
    return sorted(path for path in every if ".dist-info" not in path.relative_to(top).parts[0])


def say(done: str, rule: Rule, sizes: list[int]) -> None:
    """A rule that finds nothing is worth a word: a newer release moved what it was for."""
    print(f"{done}: {sum(sizes) / MB:.1f} MB of {len(sizes)} paths, {rule.why}", flush=True)
