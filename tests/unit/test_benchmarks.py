"""What the suites make of what their commands cost; the commands themselves are pretended."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from benchmarks import quantization
from benchmarks.images import APART, Size
from benchmarks.processes import Cost, echoed
from benchmarks.quantization import Work


def cost(cpu_s: float, code: int = 0) -> Cost:
    return Cost(wall_s=2 * cpu_s, cpu_s=cpu_s, peak_bytes=int(cpu_s * 10**8), code=code, out="first\nno such model\n")


def test_both_sides_are_quantized_in_turn_and_held_against_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def pretended(command: Sequence[str], extra: Mapping[str, str]) -> Cost:
        assert extra["CI"] == "true"
        what, side = command[3:5]
        if what == "similarity":
            Path(side).write_text(json.dumps([[0.996, 0.99], [0.998, 0.98]]))
            return cost(1)
        if what == "whole":
            (Path(command[5]) / "model.onnx").touch()
            return cost(1)
        assert Path(command[5]).name in ({"whole"} if side == "stock" else {"model", "small"})
        ran.append(f"{side} of {command[6]}")
        return cost(40 if side == "stock" else 20)

    monkeypatch.setattr(quantization, "timed", pretended)
    works = (Work(Path("model"), Path("texts")), Work(Path("small"), Path("real-texts")))
    found = {figure.name: figure for figure in quantization.figures("qdq", *works, 8, 2)}
    sides = ["stock of texts", "ours of texts"]
    assert ran == [*sides, *reversed(sides), "stock of real-texts", "ours of real-texts"]
    assert len(found["qdq, CPU"].ours) == 2
    assert (found["qdq, CPU"].ratio, found["qdq, CPU"].held, found["qdq, wall"].held) == (0.5, True, None)
    assert (found["qdq, peak"].value, found["qdq, peak"].unit) == (2000, "MB")
    assert found["qdq, 1 - mean cosine with fp32, real weights"].value == pytest.approx(2)
    assert found["qdq, 1 - least cosine with fp32, real weights"].ratio == pytest.approx(2)


def test_a_side_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "timed", lambda *_: cost(1, code=3))
    with pytest.raises(RuntimeError, match="nncf stock ended with exit code 3:\nfirst\nno such model"):
        list(quantization.figures("nncf", Work(Path("model"), Path("texts")), None, 8, 1))


def test_an_image_is_held_to_its_limit_unless_it_stands_apart() -> None:
    [apart] = APART
    assert Size("ort", 10**9, "base").figure().held is False
    assert Size("exporter", 10**9, "base").figure().held is True
    assert Size(apart, 10**10, "base").figure().held is None


def test_what_a_command_prints_is_kept_and_shown_at_once() -> None:
    shown = io.StringIO()
    lines = echoed(iter(["one\n", "two\n"]), shown)
    assert (next(lines), shown.getvalue()) == ("one\n", "one\n")
    assert (next(lines), shown.getvalue()) == ("two\n", "one\ntwo\n")
    assert list(echoed(["quiet\n"], None)) == ["quiet\n"]
