"""Rows of text from a file or a dataset: checked, distinct, and cut to the fields that were asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stagelib.api import StageError

FILE = "rows.jsonl"
LABEL = "label"
ABSENT = "absent"
"""The fact that says why a folder holds no rows."""
JSON_LINES = (".jsonl", ".ndjson")
PARQUET = ".parquet"
SUFFIXES: tuple[str, ...] = (*JSON_LINES, PARQUET)
"""Of the files that `read_file` takes, in lower case."""
Row = Mapping[str, Any]
Located = tuple[str, Row]
"""A row and where it stands, in words: `texts.jsonl line 3`."""


@dataclass(frozen=True, kw_only=True)
class Collected:
    """How many rows were read, kept and passed over."""

    read: int
    kept: int
    repeated: int
    blank: int


def collect(source: Iterable[Located], fields: Sequence[str], samples: int, output: Path) -> Collected:
    """Write at most `samples` rows with exactly `fields` to `output`/rows.jsonl, in order, no text twice.

    A text is all text fields of a row together; a row where all are blank is passed over. StageError of kind `data`
    for a missing field or a wrong type.
    """
    seen: set[tuple[str, ...]] = set()
    read = repeated = blank = 0
    with (output / FILE).open("w", encoding="utf-8") as file:
        for where, row in source:
            read += 1
            kept = {field: _checked(where, row, field) for field in fields}
            texts = tuple(value.strip() for value in kept.values() if isinstance(value, str))
            if not any(texts):
                blank += 1
            elif texts in seen:
                repeated += 1
            else:
                seen.add(texts)
                file.write(json.dumps(kept, ensure_ascii=False) + "\n")
                if len(seen) == samples:
                    break
    return Collected(read=read, kept=len(seen), repeated=repeated, blank=blank)


def refuse_empty(collected: Collected, what: str) -> None:
    """StageError where no row was kept."""
    if collected.kept == 0:
        why = f"all of its {collected.read} rows have blank texts" if collected.read else "it has no rows"
        raise StageError(f"{what} is empty: {why}", hint="--data=<file> with at least one row of text", kind="data")


def _checked(where: str, row: Row, field: str) -> str | int:
    """The value of a field: an integer for the label, text for every other."""
    if field not in row:
        there = ", ".join(map(str, row)) or "no fields at all"
        raise StageError(f"{where} has no field {field!r}; it has {there}", hint=_expect([field]), kind="data")
    value = row[field]
    if field == LABEL:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise _wrong_type(where, field, value, "an integer")
    if not isinstance(value, str):
        raise _wrong_type(where, field, value, "text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise StageError(f"{where}: {field!r} holds half of a surrogate pair, which is no text", kind="data") from None
    return value


def _wrong_type(where: str, field: str, value: object, expected: str) -> StageError:
    names = {str: "text", bool: "true or false", type(None): "null", dict: "an object", list: "a list"}
    found = names.get(type(value), type(value).__name__)
    return StageError(f"{where}: {field!r} must be {expected}, but is {found}", kind="data")


def _expect(fields: Sequence[str]) -> str:
    return f"the recipe reads {', '.join(map(repr, fields))}; rename the field, or name another file with --data=<file>"


def read_file(path: Path, fields: Sequence[str]) -> Iterator[Located]:
    """Rows of a JSON-lines or Parquet file; StageError of kind `data` says what is wrong and on which line."""
    if path.is_dir():
        raise StageError(
            f"{path.name} is a folder", hint="--data=<file> takes one .jsonl or .parquet file", kind="data"
        )
    suffix = path.suffix.lower()
    if suffix in JSON_LINES:
        return _json_lines(path)
    if suffix == PARQUET:
        return _parquet(path, fields)
    known = ", ".join(SUFFIXES)
    raise StageError(
        f"{path.name}: the suffix {suffix!r} names no known format", hint=f"known are {known}", kind="data"
    )


def _json_lines(path: Path) -> Iterator[Located]:
    try:
        # Read as bytes: a text file's own decoder works in blocks and can't say which line is broken.
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                where = f"{path.name} line {number}"
                text = _decoded(line, where, first=number == 1)
                if text.strip():
                    yield where, _json_object(text, where)
    except OSError as error:
        raise _unreadable(path, error) from None


def _decoded(line: bytes, where: str, *, first: bool) -> str:
    try:
        return line.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise StageError(
            f"{where} is not UTF-8: byte {byte:#04x} at column {error.start + 1}", hint="save it as UTF-8", kind="data"
        ) from None


def _json_object(text: str, where: str) -> Row:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        message = f"{where} is not JSON: {error.msg} at column {error.colno}"
        raise StageError(message, hint="one JSON object on each line", kind="data") from None
    except RecursionError:
        raise StageError(
            f"{where} is nested too deeply", hint="one flat JSON object on each line", kind="data"
        ) from None
    if not isinstance(value, dict):
        names = {list: "a list", str: "text", type(None): "null"}
        found = names.get(type(value), type(value).__name__)
        raise StageError(f"{where} is {found}, not a JSON object", hint="one JSON object on each line", kind="data")
    return value


def _parquet(path: Path, fields: Sequence[str]) -> Iterator[Located]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns = file.schema_arrow.names
            if absent := [field for field in fields if field not in columns]:
                message = f"{path.name} has no column {absent[0]!r}; it has {', '.join(columns)}"
                raise StageError(message, hint=_expect(absent), kind="data")
            number = 0
            for batch in file.iter_batches(batch_size=256, columns=list(fields)):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path.name} row {number}", row
    except pyarrow.ArrowException as error:
        message = f"{path.name} is not readable as Parquet: {str(error).splitlines()[0]}"
        raise StageError(message, kind="data") from None
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> StageError:
    return StageError(
        f"can't read {path.name}: {error.strerror or error}", hint="--data=<file> names another", kind="data"
    )


def read_rows(folder: Path, fields: Sequence[str]) -> Iterator[Row]:
    """The rows of a folder's rows.jsonl; StageError where one lacks a field."""
    with (folder / FILE).open(encoding="utf-8") as file:
        for line in file:
            row: Row = json.loads(line)
            if missing := [field for field in fields if field not in row]:
                raise StageError(f"the data has no field {missing[0]!r}", hint=_expect(missing), kind="data")
            yield row


def read_texts(folder: Path, field: str) -> list[str]:
    """One field of a folder's rows.jsonl: distinct texts, in order, none blank. StageError where there are none.

    White space at a text's ends is cut, so that two that differ in nothing else are one, wherever they are compared.
    """
    texts: dict[str, None] = {}
    with (folder / FILE).open(encoding="utf-8") as file:
        for line in file:
            value = json.loads(line).get(field)
            if not isinstance(value, str):
                raise StageError(
                    f"the data has no text field {field!r}", hint="name one of its text fields", kind="data"
                )
            if text := value.strip():
                texts[text] = None
    if not texts:
        raise StageError(
            f"the data is empty: every {field!r} is blank", hint="--data=<file> names another", kind="data"
        )
    return list(texts)
