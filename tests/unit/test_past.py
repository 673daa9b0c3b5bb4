"""A recipe's measurements over time: under all its keys, oldest first, whatever was left half-written."""

from __future__ import annotations

from pathlib import Path

import pytest

from portwright.errors import UsageError
from portwright.past import collect, history_text
from portwright.results import RunResult
from portwright.run_records import HISTORY, record, records
from support.report_runs import Volume
from support.sample_results import ratio, result

RECIPE = result().recipe


def at(day: int, value: float, key: str = "") -> RunResult:
    """A run on a day of November with a ratio; `key` stands for another code, recipe or toolchain."""
    found = result(measured=f"2026-11-{day:02}T08:00:00+00:00", **ratio(value))
    stages = tuple(stage.model_copy(update={"key": stage.key[:40] + key}) for stage in found.stages)
    return found.model_copy(update={"stages": stages}) if key else found


def test_measurements_of_all_keys_stand_in_order(tmp_path: Path) -> None:
    volume = Volume(root=tmp_path)
    for found, commit in ((at(3, 0.3, "old"), "a" * 40), (at(1, 0.5, "older"), ""), (at(9, 0.2), "b" * 40)):
        volume.add("minilm", found)
        record(tmp_path, "minilm", found, commit)
    [series] = collect(tmp_path)
    assert [point.facts["latency_ratio"] for point in series.points] == [0.5, 0.3, 0.2]
    assert [point.number for point in series.points] == [1, 2, 3]
    assert [point.commit for point in series.points] == ["", "a" * 10, "b" * 10]


def test_what_was_measured_before_there_were_records_is_found_by_the_last_run(tmp_path: Path) -> None:
    volume = Volume(root=tmp_path)
    volume.measure(at(1, 0.25), host="elsewhere")
    volume.add("minilm", at(2, 0.24))
    [series] = collect(tmp_path)
    assert [point.place for point in series.points] == ["openvino-CPU@elsewhere", "openvino-CPU@vm"]


def test_the_same_run_is_recorded_once_and_at_each_commit(tmp_path: Path) -> None:
    found = at(1, 0.2)
    Volume(root=tmp_path).add("minilm", found)
    for commit in ("a" * 40, "a" * 40, "b" * 40):
        record(tmp_path, "minilm", found, commit)
    assert len(records(tmp_path / HISTORY / "minilm" / f"{RECIPE}.jsonl")) == 2
    [series] = collect(tmp_path)
    assert series.points[0].commits == ("a" * 40, "b" * 40)


def test_a_line_cut_short_hurts_no_other(tmp_path: Path) -> None:
    record(tmp_path, "minilm", at(1, 0.2), "")
    path = tmp_path / HISTORY / "minilm" / f"{RECIPE}.jsonl"
    with path.open("a") as file:
        file.write('{"version": 1, "res')
    record(tmp_path, "minilm", at(2, 0.3), "")
    assert [line.result.latency_ratio for line in records(path)] == [0.2, 0.3]


def test_recipe_and_model_choose(tmp_path: Path) -> None:
    volume = Volume(root=tmp_path)
    volume.add("minilm", at(1, 0.2))
    volume.add("other", result(recipe="another", model__source="acme/other@1"))
    assert [series.recipe for series in collect(tmp_path, recipe="another")] == ["another"]
    assert [series.model for series in collect(tmp_path, model="acme/other@1")] == ["other"]
    assert [series.model for series in collect(tmp_path, model="minilm")] == ["minilm"]
    with pytest.raises(UsageError, match="recipe 'anothr'") as caught:
        collect(tmp_path, recipe="anothr")
    assert "did you mean 'another'" in caught.value.hint


def test_an_empty_volume_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no measurement is recorded") as caught:
        collect(tmp_path)
    assert caught.value.exit_code == 2


def test_the_table_says_what_ran_and_with_which_interval(tmp_path: Path) -> None:
    volume = Volume(root=tmp_path)
    volume.add("minilm", at(1, 0.25))
    volume.add("minilm", at(2, 0.20))
    text = history_text(collect(tmp_path))
    lines = text.splitlines()
    assert lines[0] == f"minilm / {RECIPE}"
    assert "2026-11-01T08:00:00Z" in lines[3]
    assert "0.250    0.247 to 0.253" in lines[3]
    assert "openvino-CPU@vm" in lines[4]
