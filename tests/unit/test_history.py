"""Measurements: appended, the newest last, and a line cut short by a crash hurts no other."""

from __future__ import annotations

from pathlib import Path

from portwright.history import History, Measurement, sample_lines


def measurement(run: str) -> Measurement:
    return Measurement(
        taken="2026-01-01T00:00:00+00:00",
        run=run,
        key="k" * 64,
        stage="benchmark",
        engine="venv",
        device="onnxruntime-CPU",
        host="here",
        facts={},
        samples=({"candidate_ms": 1.0},),
        versions={},
        seconds=1.0,
        peak_memory_bytes=1,
    )


def last(history: History) -> Measurement | None:
    return history.last("k" * 64, "onnxruntime-CPU", "here")


def test_the_newest_is_shown_and_all_are_kept(tmp_path: Path) -> None:
    history = History(tmp_path)
    assert last(history) is None
    history.append(measurement("one"))
    history.append(measurement("two"))
    assert last(history) == measurement("two")
    assert history.path("k" * 64, "onnxruntime-CPU", "here").read_text().count("\n") == 2


def test_another_host_is_another_history(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.append(measurement("one"))
    assert history.last("k" * 64, "onnxruntime-CPU", "there") is None


def test_a_line_cut_short_is_passed_over_and_ended(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.append(measurement("one"))
    path = history.path("k" * 64, "onnxruntime-CPU", "here")
    with path.open("a") as file:
        file.write('{"taken": "20')
    assert last(history) == measurement("one")
    history.append(measurement("two"))
    assert last(history) == measurement("two")
    assert path.read_text().count("\n") == 3


def test_samples_say_who_took_them() -> None:
    assert sample_lines(measurement("one")) == [
        {"stage": "benchmark", "taken": "2026-01-01T00:00:00+00:00", "candidate_ms": 1.0}
    ]
