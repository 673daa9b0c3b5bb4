"""The tables of docs/performance.md: between a part's two marks is the suite's, everything else a person's."""

from __future__ import annotations

import re
from collections.abc import Sequence

from benchmarks.processes import ROOT

DOCUMENT = ROOT / "docs" / "performance.md"


def marks(part: str) -> tuple[str, str]:
    """What a part's table stands between; Markdown shows neither."""
    return f"<!-- {part} -->", f"<!-- /{part} -->"


def parts_of(text: str) -> list[str]:
    """Parts with a place in a document, in order."""
    return re.findall(r"^<!-- ([\w-]+) -->$", text, re.MULTILINE)


def with_table(text: str, part: str, table: str) -> str:
    """The document with another table of a part; RuntimeError where it has no place for one."""
    first, last = marks(part)
    before, found, rest = text.partition(f"{first}\n")
    _, closed, after = rest.partition(last)
    if not found or not closed:
        raise RuntimeError(f"{DOCUMENT.name} has no place for {part}: add the lines {first} and {last}")
    return f"{before}{first}\n{table.strip()}\n{last}{after}"


def tables_in(out: str) -> str:
    """The Markdown tables among what a command printed; RuntimeError where there is none."""
    lines = [line for line in out.splitlines() if line.startswith("|")]
    if not lines:
        raise RuntimeError("no table was printed")
    return "\n".join(lines)


def section(command: str, about: Sequence[str], table: str) -> str:
    """What is written for a part: the command, under what conditions it ran, and its table."""
    return f"`{command}`\n{'; '.join(about)}.\n\n{table}"
