"""`read_data`: rows of a local JSON-lines or Parquet file."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from stagelib import rows
from stagelib.api import Call, Result, Stage


@dataclass(frozen=True, kw_only=True)
class Params:
    """`fields` to keep (`label` is an integer, every other one text); at most `samples` rows, no text twice."""

    fields: tuple[str, ...]
    samples: int


STAGE = Stage(summary="read the data from a file", params=Params, inputs=("local",), needs=("pyarrow",), internal=True)


def run(call: Call, params: Params) -> Result:
    path = call.input("local")
    collected = rows.collect(rows.read_file(path, params.fields), params.fields, params.samples, call.output)
    rows.refuse_empty(collected, path.name)
    return Result(facts={"source": path.name, "fields": list(params.fields), **asdict(collected)})
