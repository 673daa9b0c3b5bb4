"""`read_data`: rows of a local JSON-lines or Parquet file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from stagelib import rows
from stagelib.api import Call, Result, Stage


@dataclass(frozen=True, kw_only=True)
class Params:
    """`fields` to keep (`label` is an integer, every other one text); at most `samples` rows, no text twice."""

    fields: tuple[str, ...]
    samples: int
    optional: bool = False
    """A file whose first row lacks one of the fields is no error: no rows are written, and the facts say why."""


STAGE = Stage(
    summary="read the data from a file",
    params=Params,
    inputs=("local",),
    needs=("pyarrow",),
    internal=True,
    threads=1,
    memory_mb=200,
)


def run(call: Call, params: Params) -> Result:
    path = call.input("local")
    if params.optional and (missing := _missing(path, params.fields)):
        return Result(facts={"source": path.name, "fields": list(params.fields), rows.ABSENT: missing})
    collected = rows.collect(rows.read_file(path, params.fields), params.fields, params.samples, call.output)
    rows.refuse_empty(collected, path.name)
    return Result(facts={"source": path.name, "fields": list(params.fields), **asdict(collected)})


def _missing(path: Path, fields: tuple[str, ...]) -> str:
    """What the file's first row lacks of the fields, in words; empty where it lacks nothing."""
    if path.suffix.lower() == rows.PARQUET:
        import pyarrow
        import pyarrow.parquet

        try:
            there = set(pyarrow.parquet.read_schema(path).names)
        except (pyarrow.ArrowException, OSError):
            return ""  # what is wrong with it is said by whoever reads it
    else:
        there = set(next((row for _, row in rows.read_file(path, ())), {}))
    lacking = [field for field in fields if field not in there]
    return f"{path.name} has no {', '.join(lacking)}" if lacking else ""
