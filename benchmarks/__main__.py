"""The whole suite, or named parts of it: `python -m benchmarks [PART …] [--peer=VENV,VENV] [--write]`.

Parts run one after the other, each by its own command, whose output goes to standard error. One that needs what isn't
here is skipped, with the reason. `--write` puts the tables into docs/performance.md, between each part's marks; what
stands around them stays. Exit code 1 where a part failed, or was asked for by name and skipped; a limit that is missed
is a finding, and stands in its table.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.document import DOCUMENT, section, tables_in, with_table
from benchmarks.made import TEXTS
from benchmarks.processes import leaving_in_order, succeeded, timed
from benchmarks.suite import PARTS, REAL, MissingError, Options, command_of
from stagelib.machine import describe_machine


def measure(part: str, given: Options) -> str:
    """A part's section; MissingError where it can't run here, RuntimeError where it fails."""
    before = os.getloadavg()[0]
    command = command_of(part, given)
    cost = succeeded(timed(command.line, command.environment, shown=sys.stderr), part)
    repeats = "" if given.repeats == Options().repeats else f"--repeats={given.repeats}"
    shown = " ".join(filter(None, ["python -m benchmarks", part, PARTS[part].options, repeats]))
    load = f"load before it {before:.1f}"
    return section(
        shown, [datetime.datetime.now(datetime.UTC).date().isoformat(), _machine(), load], tables_in(cost.out)
    )


def _machine() -> str:
    """The processor this ran on, as far as the system names it."""
    told = describe_machine()
    return f"{told['cpu_model'] or 'an unnamed processor'}, {len(told['cpus_allowed']) or os.cpu_count()} CPUs"


def run(parts: Sequence[str], given: Options, document: Path | None, *, named: bool = True) -> list[str]:
    """Measure parts and print their sections, or write them into a document; the names of those that failed. To be
    skipped is to fail where the part was asked for by its name."""
    failed = []
    for part in parts:
        try:
            found = measure(part, given)
        except MissingError as missing:
            print(f"{part}: skipped: {missing}\n", flush=True)
            failed += [part] if named else []
        except RuntimeError as error:
            print(f"{part}: failed: {error}\n", flush=True)
            failed.append(part)
        else:
            print(f"## {part}: {PARTS[part].about}\n\n{found}\n", flush=True)
            if document:
                document.write_text(with_table(document.read_text(encoding="utf-8"), part, found), encoding="utf-8")
    return failed


def main(arguments: Sequence[str] | None = None) -> int:
    listing = "; ".join(f"{name}: {part.about}" for name, part in PARTS.items())
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{listing}; left out: all")
    parser.add_argument("--peer", default="", help="environments that hold Olive, with commas")
    parser.add_argument("--model", type=Path, default=REAL, help="a small model with real weights")
    parser.add_argument("--texts", type=Path, default=TEXTS)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--write", action="store_true", help=f"write the tables into {DOCUMENT.name}")
    asked = parser.parse_args(arguments)
    if unknown := [part for part in asked.parts if part not in PARTS]:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    peers = [Path(name).absolute() for name in filter(None, asked.peer.split(","))]
    if absent := [str(path) for path in peers if not path.exists()]:
        parser.error(f"--peer: {', '.join(absent)} isn't there")
    if asked.repeats < 1:
        parser.error(f"--repeats={asked.repeats}: at least 1")
    peer = ",".join(map(str, peers))
    given = Options(peer=peer, real=asked.model.resolve(), texts=asked.texts.resolve(), repeats=asked.repeats)
    document = DOCUMENT if asked.write else None
    return 1 if run(asked.parts or list(PARTS), given, document, named=bool(asked.parts)) else 0


if __name__ == "__main__":
    with leaving_in_order():
        sys.exit(main())
