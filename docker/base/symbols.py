"""Takes symbol tables, which only a debugger reads, off shared libraries whose builders left them there.

`python symbols.py RULES…`, by the environment's own interpreter, does so where a `[[no_symbols]]` rule says.

What `strip` would do, without binutils in the builder stage: the table and its strings are cut from the end of the
file. What the loader reads lies before them and stays as it is, byte for byte; a file laid out otherwise is left alone.
"""

from __future__ import annotations

import struct
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rules import RefusedError, read, say

MAGIC = b"\x7fELF\x02\x01"
"""ELF of 64 bits, little-endian."""
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
SECTION = struct.Struct("<IIQQQQIIQQ")
SYMBOLS, NO_BITS = 2, 8
LOADED = 2
"""The flag of a section that is mapped into memory."""


@dataclass(frozen=True)
class Section:
    """A section header: its fields in the file's order, those that matter by name."""

    fields: tuple[int, ...]

    @property
    def kind(self) -> int:
        return self.fields[1]

    @property
    def loaded(self) -> bool:
        return bool(self.fields[2] & LOADED)

    @property
    def start(self) -> int:
        return self.fields[4]

    @property
    def size(self) -> int:
        return 0 if self.kind == NO_BITS else self.fields[5]

    @property
    def link(self) -> int:
        return self.fields[6]


def main(files: list[str]) -> None:
    top = Path(sysconfig.get_paths()["purelib"])
    for rule in (rule for name in files for rule in read(Path(name))["no_symbols"]):
        say("symbols taken off", rule, [take_off(path) for path in rule.matches(top) if not path.is_symlink()])


def take_off(path: Path) -> int:
    """Cut the symbols from a file; how many bytes that saves, 0 where there are none or they aren't at its end."""
    with path.open("r+b") as file:
        head = file.read(HEADER.size)
        if not head.startswith(MAGIC):
            return 0
        fields = list(HEADER.unpack(head))
        segments_at, sections_at = fields[5], fields[6]
        segments, sections, names = fields[10], fields[12], fields[13]
        ends = [at + size for _, _, at, _, _, size, _, _ in table(file, SEGMENT, segments_at, segments)]
        there = [Section(found) for found in table(file, SECTION, sections_at, sections)]
        symbols = next((index for index, section in enumerate(there) if section.kind == SYMBOLS), None)
        if symbols is None:
            return 0
        going = {symbols, there[symbols].link}
        cut = there[symbols].start
        after = {index for index, section in enumerate(there) if section.size and section.start >= cut}
        movable = not any(there[index].loaded for index in after) and max(ends, default=0) <= cut <= sections_at
        if not movable or after != {*going, names} or names in going:
            return 0
        file.seek(there[names].start)
        strings = file.read(there[names].size)
        before = path.stat().st_size
        fields[6] = cut + len(strings) + -(cut + len(strings)) % 8
        file.seek(cut)
        file.write(strings.ljust(fields[6] - cut, b"\0"))
        for index, section in enumerate(there):
            kept = moved(section, cut) if index == names else section
            file.write(SECTION.pack(*(0,) * 10 if index in going else kept.fields))
        file.truncate()
        file.seek(0)
        file.write(HEADER.pack(*fields))
    return before - path.stat().st_size


def table(file: IO[bytes], entry: struct.Struct, start: int, count: int) -> list[tuple[int, ...]]:
    file.seek(start)
    return [entry.unpack(file.read(entry.size)) for _ in range(count)]


def moved(section: Section, start: int) -> Section:
    return Section((*section.fields[:4], start, *section.fields[5:]))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (RefusedError, OSError) as error:
        sys.exit(f"symbols: {error}")
