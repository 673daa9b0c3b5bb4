"""What a call is expected to take: what its stage declares, then what was seen of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from portwright.calls import StageCall
from portwright.errors import StoreError
from portwright.needs import TOKEN_BYTES, Needs, size_of
from portwright.peaks import FADING, MARGIN, PEAKS, Peaks, Size
from portwright.project import this_project
from portwright.shelf import Done
from portwright.stages import StageLibrary
from portwright.store import Store
from support.pretend import plan_of

LIBRARY = StageLibrary(this_project().shared)
SIZE = 1000
TOKENS = 128
"""Of the published recipe's batch."""
MODEL = Size(model_bytes=SIZE, tokens=TOKENS)


@pytest.fixture
def calls(tmp_path: Path) -> dict[str, StageCall]:
    data = tmp_path / "texts.jsonl"
    data.write_text('{"premise": "a", "hypothesis": "b", "label": 0}\n')
    return {call.stage: call for call in plan_of("cpu", "bert-base-portuguese-cased_qdq_cpu", data).calls}


@pytest.fixture
def done(tmp_path: Path, calls: dict[str, StageCall]) -> dict[str, Done]:
    """Every artifact there, of 1000 bytes."""
    store = Store(tmp_path / "artifacts")
    found = {}
    for call in calls.values():
        made: dict[str, Any] = {"key": call.key, "stage": call.stage, "engine": "venv", "toolchain": "t"}
        made |= {"components": {}, "facts": {}, "versions": {}, "seconds": 1.0, "peak_memory_bytes": 1, "created": ""}
        with store.workspace() as work:
            (work / "output").mkdir()
            (work / "output" / "model").write_bytes(bytes(SIZE))
            found[call.key] = Done(call=call, cached=True, artifact=store.put(work / "output", made))
    return found


def test_what_a_stage_declares_is_the_first_guess(
    tmp_path: Path, calls: dict[str, StageCall], done: dict[str, Done]
) -> None:
    needs = Needs(LIBRARY, Peaks(tmp_path), cores=3)
    fix_shape, embed, benchmark = (needs.of(calls[name], done) for name in ("fix_shape", "embed", "benchmark"))
    stage = LIBRARY.get("fix_shape").stage
    assert fix_shape.memory == int(stage.memory_factor * SIZE) + (stage.memory_mb << 20) + TOKENS * TOKEN_BYTES
    assert (fix_shape.cores, embed.cores) == (1, 3)
    assert (fix_shape.alone, embed.alone, benchmark.alone) == (False, False, True)
    assert size_of(calls["read_data"], done) == Size()
    assert size_of(calls["export"], done) == Size(model_bytes=SIZE)


def test_what_was_seen_of_a_model_of_that_size_counts_more(
    tmp_path: Path, calls: dict[str, StageCall], done: dict[str, Done]
) -> None:
    peaks = Peaks(tmp_path)
    peaks.saw("fix_shape", MODEL, 10**9)
    peaks.saw("fix_shape", replace(MODEL, model_bytes=100 * SIZE), 10**11)
    peaks.saw("fix_shape", replace(MODEL, tokens=64 * TOKENS), 10**10)
    assert Needs(LIBRARY, peaks, cores=2).of(calls["fix_shape"], done).memory == int(10**9 * MARGIN)


def test_only_what_measures_time_runs_alone() -> None:
    assert [name for name in LIBRARY.names if LIBRARY.get(name).stage.exclusive] == ["benchmark"]


def test_peaks_last_and_fade(tmp_path: Path) -> None:
    first = Peaks(tmp_path)
    first.saw("export", MODEL, 1000)
    first.saw("export", MODEL, 10)
    first.saw("nothing", MODEL, 0)
    first.save()
    other = Peaks(tmp_path)
    assert other.of("export", MODEL) == int(int(1000 * FADING) * MARGIN)
    assert other.of("export", replace(MODEL, model_bytes=SIZE + 1)) == other.of("export", MODEL)
    assert other.of("export", replace(MODEL, model_bytes=2 * SIZE)) is None
    assert other.of("export", replace(MODEL, tokens=2 * TOKENS)) is None
    assert other.of("nothing", MODEL) is None


def test_two_runs_keep_what_both_saw(tmp_path: Path) -> None:
    first, second = Peaks(tmp_path), Peaks(tmp_path)
    first.saw("export", MODEL, 1)
    second.saw("embed", MODEL, 2)
    first.save()
    second.save()
    assert {name.split("/")[0] for name in json.loads((tmp_path / PEAKS).read_text())} == {"export", "embed"}


@pytest.mark.parametrize("text", ["{", '{"export/1": "much"}', ""])
def test_a_damaged_file_is_no_memory_and_no_error(tmp_path: Path, text: str) -> None:
    (tmp_path / PEAKS).write_text(text)
    peaks = Peaks(tmp_path)
    assert peaks.of("export", MODEL) is None
    peaks.saw("export", MODEL, 5)
    peaks.save()
    assert Peaks(tmp_path).of("export", MODEL) == int(5 * MARGIN)


def test_what_cannot_be_written_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / PEAKS).mkdir()
    peaks = Peaks(tmp_path)
    peaks.saw("export", MODEL, 5)
    with pytest.raises(StoreError, match="can't write"):
        peaks.save()
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == [PEAKS]
