"""What a command costs before it does anything: listing, planning, and a run with nothing to do."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence

from benchmarks.figures import Figure, markdown
from benchmarks.processes import INVOKE, leaving_in_order, succeeded, timed

LIST_S = 0.3
PLAN_S = 0.5
NOTHING_S = 0.8
NOTHING = "Nothing to do"


def figures(repeats: int, run: Sequence[str]) -> Iterator[Figure]:
    """`run` is the `invoke run` whose no-op is timed; it is brought up to date first."""
    succeeded(timed([*INVOKE, *run]), "bringing the run up to date")
    bare = [succeeded(timed([sys.executable, "-c", "pass"]), "python").wall_s for _ in range(repeats)]
    yield Figure(name="python itself", unit="s", ours=bare)
    for name, arguments, limit in (
        ("invoke --list", ["--list"], LIST_S),
        ("invoke plan", ["plan"], PLAN_S),
        ("run, nothing to do", list(run), NOTHING_S),
    ):
        costs = [succeeded(timed([*INVOKE, *arguments]), name) for _ in range(repeats)]
        if arguments == list(run) and not all(NOTHING in cost.out for cost in costs):
            raise RuntimeError(f"{name}: there was something to do:\n{costs[0].out}")
        yield Figure(
            name=name,
            unit="s",
            ours=[cost.wall_s for cost in costs],
            limit=limit,
            note=f"{statistics.median(cost.cpu_s for cost in costs):.2f} CPU s",
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("run", nargs="+", help="the run whose no-op is timed, after --: -- run --target=all …")
    given = parser.parse_args()
    print(markdown(list(figures(given.repeats, given.run))))


if __name__ == "__main__":
    with leaving_in_order():
        main()
