"""Rows of a local file: what is kept, and how a bad file is described."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stagelib.api import StageError
from stagelib.rows import SUFFIXES, Collected, collect, read_file, read_texts, refuse_empty
from stagelib.split import split

FIELDS = ("text", "label")


def kept(path: Path, tmp_path: Path, samples: int = 100, fields: tuple[str, ...] = ("text",)) -> Collected:
    return collect(read_file(path, fields), fields, samples, tmp_path)


def test_exactly_the_fields_distinct_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(
        '\ufeff{"text": "á", "label": 1, "more": 0}\n\n{"label": 2, "text": "b"}\n{"text": "b ", "label": 3}\n'
        '{"text": " ", "label": 0}\n{"text": "c", "label": 0}\n{"text": "not read", "label": "so not checked"}',
        encoding="utf-8",
    )
    collected = kept(path, tmp_path, 3, FIELDS)
    lines = (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"text": "á", "label": 1},
        {"text": "b", "label": 2},
        {"text": "c", "label": 0},
    ]
    assert collected == Collected(read=5, kept=3, repeated=1, blank=1)


def test_one_field_is_distinct_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps({"a": text, "b": str(n)}) + "\n" for n, text in enumerate(["x", "x", " ", "y"])))
    assert kept(path, tmp_path, fields=("a", "b")).kept == 4
    assert read_texts(tmp_path, "a") == ["x", "y"]
    with pytest.raises(StageError, match="no text field 'c'"):
        read_texts(tmp_path, "c")


def test_white_space_at_the_ends_makes_no_second_text(tmp_path: Path) -> None:
    texts = {"calibration": ["x y ", "p", " q"], "evaluation": ["\tx y", "p\u00a0", "q", "r\n", "s"]}
    read = {}
    for name, values in texts.items():
        (tmp_path / name).mkdir()
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"text": value}) + "\n" for value in values), encoding="utf-8")
        kept(path, tmp_path / name)
        read[name] = read_texts(tmp_path / name, "text")
    assert read == {"calibration": ["x y", "p", "q"], "evaluation": ["x y", "p", "q", "r", "s"]}
    chosen = split(read["calibration"], read["evaluation"], (3, 2))
    assert (chosen.calibration, chosen.evaluation) == (("x y", "p", "q"), ("r", "s"))


def test_every_suffix_named_is_read_and_no_other(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        read_file(tmp_path / f"t{suffix.upper()}", FIELDS)
    with pytest.raises(StageError, match=r"known format") as caught:
        read_file(tmp_path / "t.json", FIELDS)
    assert all(suffix in caught.value.hint for suffix in SUFFIXES)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.jsonl", b'{"text": "a"}\n{"text": "\xe9"}\n', "t.jsonl line 2 is not UTF-8: byte 0xe9 at column 11"),
        ("t.jsonl", b'{"text": "a"}\n{"text": \n', "t.jsonl line 2 is not JSON"),
        ("t.jsonl", b'{"text": "a"}\n["a"]\n', "t.jsonl line 2 is a list"),
        ("t.jsonl", b'{"texto": "a", "n": 1}\n', "t.jsonl line 1 has no field 'text'; it has texto, n"),
        ("t.jsonl", b'{"text": 1}\n', "t.jsonl line 1: 'text' must be text, but is int"),
        ("t.jsonl", b'{"text": null}\n', "t.jsonl line 1: 'text' must be text, but is null"),
        ("t.jsonl", rb'{"text": "\ud800"}', "half of a surrogate pair"),
        ("t.jsonl", b"[" * 100_000, "nested too deeply"),
        ("t.csv", b"text\na\n", "'.csv' names no known format"),
        ("t", b"{}", "'' names no known format"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StageError) as caught:
        kept(tmp_path / name, tmp_path)
    assert words in caught.value.message
    assert caught.value.kind == "data"


@pytest.mark.parametrize("label", ["one", True, 1.0, None])
def test_a_label_is_an_integer(tmp_path: Path, label: object) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps({"text": "a", "label": label}))
    with pytest.raises(StageError, match="'label' must be an integer"):
        kept(tmp_path / "t.jsonl", tmp_path, fields=FIELDS)


def test_folders_and_missing_files_are_data_errors(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="is a folder"):
        kept(tmp_path, tmp_path)
    with pytest.raises(StageError, match=r"can't read none\.jsonl: No such file"):
        kept(tmp_path / "none.jsonl", tmp_path)


@pytest.mark.parametrize(
    ("content", "words"), [("", "it has no rows"), ('{"text": " "}', "all of its 1 rows have blank")]
)
def test_nothing_left_is_an_error(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "t.jsonl").write_text(content)
    with pytest.raises(StageError, match=words):
        refuse_empty(kept(tmp_path / "t.jsonl", tmp_path), "t.jsonl")
