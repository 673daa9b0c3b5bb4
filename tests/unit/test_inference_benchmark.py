"""What the suite for int8 on a processor makes of the benchmark's facts; making and measuring are pretended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import inference
from benchmarks.inference import Measured
from benchmarks.inference_models import Candidate
from stagelib.api import StageError
from stagelib.stages import benchmark


def facts(ratio: float, verdict: str = "valid") -> Mapping[str, Any]:
    everything = {"threads": 16, "latency_ratio": 2 * ratio, "latency_ms": {"p50": 4.29}}
    return {
        "latency_ratio": ratio,
        "latency_ms": {"p50": 11.1},
        "verdict": verdict,
        "all_threads": everything,
    }


def test_a_ratio_is_shown_with_its_spread_and_held_to_its_limit() -> None:
    measured = Measured(facts=[facts(0.23), facts(0.27), facts(0.25, "unstable")], cosine=0.9976)
    one, every = inference.figures({inference.HELD: measured, "ort-dynamic": Measured(failure="no")}, 0.3)
    assert (one.value, min(one.ours), max(one.ours), one.held) == (0.25, 0.23, 0.27, True)
    assert one.note == "11.1 ms, unstable, cosine 0.9976"
    assert "16 threads" in every.name
    assert (every.value, every.held) == (0.5, None)


def test_the_limit_is_asked_of_one_candidate_alone() -> None:
    [one, _] = inference.figures({"ort-dynamic": Measured(facts=[facts(0.6)])}, 0.3)
    assert one.held is None


def test_no_settings_are_searched_for_one_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def run(_: Any, params: benchmark.Params) -> Any:
        asked.append(params.search_seconds)
        return SimpleNamespace(facts=facts(0.5))

    monkeypatch.setattr(benchmark, "run", run)
    inference._benchmark(Candidate(title="int8", runtime="openvino"), tmp_path, tmp_path, tmp_path)
    assert asked == [0]


def test_candidates_are_measured_in_turn_and_one_that_can_not_be_made_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(*given: Any) -> None:
        assert given[:3] == (tmp_path, Path("texts"), 8)
        assert given[3].is_dir()

    def refuse(*_: Any) -> None:
        raise StageError("nothing to fuse")

    pretended = {
        "fp32": Candidate(title="fp32", runtime="onnxruntime", similar=False),
        "int8": Candidate(title="int8", runtime="openvino", make=make),
        "none": Candidate(title="none", runtime="openvino", make=refuse),
    }
    ran: list[tuple[str, str]] = []

    def measured(candidate: Candidate, made: Path, model: Path, _: Path) -> Mapping[str, Any]:
        ran.append((candidate.title, "itself" if made == model else made.name))
        return facts(0.5)

    monkeypatch.setattr(inference, "CANDIDATES", pretended)
    monkeypatch.setattr(inference, "_benchmark", measured)
    monkeypatch.setattr(inference, "_cosine", lambda *_: 0.99)
    found = inference.measure(tmp_path, Path("texts"), list(pretended), 8, 2)
    assert ran == [("fp32", "itself"), ("int8", "int8")] * 2
    assert (found["fp32"].cosine, found["int8"].cosine) == (None, 0.99)
    assert (found["none"].failure, found["none"].facts) == ("nothing to fuse", [])


def test_an_unknown_candidate_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        inference.main(["--model=m", "--texts=t", "--only=openvino-int8,int7"])
    assert "no candidate int7; known: ort-fp32" in capsys.readouterr().err
