"""Comparing runs: like with like, ties where noise could be the reason, regressions by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from portwright import run_records
from portwright.compare import compare, comparison_text, paired_interval, regressions
from portwright.errors import UsageError
from portwright.project import Project
from portwright.results import RunResult
from support.report_runs import Volume
from support.sample_results import gate, ratio, result, settings

RECIPE = result().recipe
MANY = [0.9977 + 0.0001 * (index % 9) for index in range(64)]
ACCURACY = {
    "task": "XNLI",
    "fp32": 0.61,
    "optimized": 0.60,
    "drop": 0.01,
    "drop_interval": [-0.01, 0.03],
    "mcnemar_p": 0.4,
    "only_fp32": 7,
    "only_optimized": 4,
    "train_samples": 600,
    "samples": 300,
    "chance": 0.34,
}


def outcomes(
    tmp_path: Path, before: RunResult, after: RunResult, cosines: tuple[list[float], list[float]] = (MANY, MANY)
) -> dict[str, str]:
    """Outcome by figure, of two runs in host volumes of their own."""
    folders = [
        str(Volume(root=tmp_path / name).add("minilm", found, cosines=scored))
        for name, found, scored in zip("ab", (before, after), cosines, strict=True)
    ]
    [comparison] = compare(Project(tmp_path), *folders)
    return {item.name: item.outcome for item in comparison.findings}


def test_a_run_is_no_better_than_itself(tmp_path: Path) -> None:
    assert set(outcomes(tmp_path, result(accuracy=ACCURACY), result(accuracy=ACCURACY)).values()) == {"tie"}


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        pytest.param(0.232, 0.260, "regression", id="12 % slower"),
        pytest.param(0.232, 0.200, "improvement", id="14 % faster"),
        pytest.param(0.232, 0.243, "tie", id="within what two measurements of one model differ by"),
    ],
)
def test_latency_is_judged_by_its_ratio(tmp_path: Path, before: float, after: float, outcome: str) -> None:
    found = outcomes(tmp_path, result(**ratio(before)), result(**ratio(after)))
    assert found["latency over fp32"] == outcome


def test_wide_intervals_that_overlap_are_a_tie(tmp_path: Path) -> None:
    left = result(**ratio(0.232) | {"latency_ratio_interval": [0.20, 0.28]})
    right = result(**ratio(0.30) | {"latency_ratio_interval": [0.27, 0.33]})
    assert outcomes(tmp_path, left, right)["latency over fp32"] == "tie"


def test_milliseconds_alone_decide_nothing(tmp_path: Path) -> None:
    slow = ratio(0.232)
    slow["latency_ms"] = {name: 3 * value for name, value in slow["latency_ms"].items()}
    assert set(outcomes(tmp_path, result(), result(**slow)).values()) <= {"tie", "not compared"}


def test_a_measurement_that_has_become_invalid_is_a_regression_and_one_that_was_is_not_compared(tmp_path: Path) -> None:
    broken = result(verdict="invalid", verdict_reason="NaN", **ratio(0.9))
    assert outcomes(tmp_path, result(), broken)["latency over fp32"] == "regression"
    assert outcomes(tmp_path, broken, result())["latency over fp32"] == "not compared"


def test_similarity_is_judged_text_by_text(tmp_path: Path) -> None:
    shifted = [value - 0.002 for value in MANY]
    found = outcomes(tmp_path, result(), result(similarity__mean=0.9957), (MANY, shifted))
    assert found["similarity, mean"] == "regression"
    # One text of many moves the mean as far, and the next text might have moved it back.
    odd = [MANY[0] - 0.128, *MANY[1:]]
    found = outcomes(tmp_path, result(), result(similarity__mean=0.9957, similarity__min=0.87), (MANY, odd))
    assert found["similarity, mean"] == "tie"
    assert found["similarity, worst text"] == "regression"


def test_the_paired_interval_holds_the_difference() -> None:
    low, high = paired_interval([0.9, 0.8, 0.7, 0.6] * 8, [0.91, 0.80, 0.72, 0.60] * 8)
    assert low < 0.0075 < high
    assert low > 0


def test_an_embedding_that_is_no_number_is_a_regression(tmp_path: Path) -> None:
    after = result(similarity__mean=None, similarity__min=None)
    assert outcomes(tmp_path, result(), after)["similarity, mean"] == "regression"


def test_accuracy_size_and_gates(tmp_path: Path) -> None:
    after = result(
        accuracy=ACCURACY
        | {"drop": 0.08, "drop_interval": [0.05, 0.11], "optimized": 0.53, "only_fp32": 27, "only_optimized": 3},
        size_bytes=result().size_bytes * 2,
        gates=[gate("similarity.mean", "failed", 0.999, 0.9977, "too low")],
    )
    found = outcomes(tmp_path, result(accuracy=ACCURACY), after)
    assert {name for name, outcome in found.items() if outcome == "regression"} == {
        "accuracy drop",
        "size",
        "gate similarity.mean",
    }


def test_what_each_sides_search_chose_is_compared_too(tmp_path: Path) -> None:
    found = settings("default")
    chosen = found | {"chosen": "faster", "options": {"x": 1}, "settings": found["default"] | {"x": 1}}
    after = result(settings=chosen["settings"], session_settings={"one_thread": chosen}, **ratio(0.1))
    assert "improvement" in outcomes(tmp_path, result(settings=found["default"]), after).values()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"protocol__inputs_sha256": "00" * 32}, "inputs sha256"),
        ({"protocol__evaluation_sha256": "00" * 32}, "evaluation sha256"),
        ({"protocol__batch_size": 4}, "batch size"),
        ({"protocol__sequence_length": 64}, "sequence length"),
        ({"protocol__threads": [1, 8]}, "threads"),
        ({"protocol__number": 2}, "measurement protocol: "),
        ({"protocol__baseline": None}, "baseline"),
        ({"model__digest": "00" * 32}, "model"),
        ({"executed_on": "device"}, "executed on"),
        ({"device": "another processor"}, "device"),
        ({"settings": {"INFERENCE_NUM_THREADS": 2}, "session_settings": {}}, "settings"),
        ({"session_settings": {"one_thread": settings("default", threads=2)}}, "settings"),
        ({"environment__isa_flags": ["avx2"]}, "isa flags"),
        ({"environment__cpus_allowed": [0, 1, 2, 3]}, "cpus allowed"),
        ({"executed__deployable": False}, "what ships was executed"),
    ],
)
def test_what_was_not_measured_alike_is_refused(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        outcomes(tmp_path, result(), result(**changes))


def test_what_cannot_be_told_is_refused(tmp_path: Path) -> None:
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path in paths:
        path.write_text(result(protocol=None).model_dump_json())
    with pytest.raises(UsageError, match="of A and B can't be told"):
        compare(Project(tmp_path), *map(str, paths))


def test_another_runtime_has_settings_of_its_own(tmp_path: Path) -> None:
    after = result(placement__runtime="onnxruntime", settings={"provider": "CPUExecutionProvider"}, **ratio(0.8))
    assert outcomes(tmp_path, result(), after)["latency over fp32"] == "regression"


def test_files_alone_are_compared_and_regressions_named(tmp_path: Path) -> None:
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    paths[0].write_text(result().model_dump_json())
    paths[1].write_text(result(**ratio(0.5)).model_dump_json())
    found = compare(Project(tmp_path), *map(str, paths))
    assert regressions(found) == [f"latency over fp32 of {RECIPE}"]
    assert "regression: latency over fp32, 0.232 (0.230 to 0.234) to 0.500" in comparison_text(found)


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A host volume with three measurements of a recipe at two commits, and a git that knows those two."""
    monkeypatch.setenv("PORTWRIGHT_ARTIFACTS", str(tmp_path))
    commits = {"old": "a" * 40, "new": "b" * 40}
    monkeypatch.setattr(run_records, "resolve", lambda _, text: commits.get(text, ""))
    made = Volume(root=tmp_path)
    for day, value, commit in (
        (20, 0.22, commits["old"]),
        (21, 0.23, f"{commits['new']}+"),
        (22, 0.30, commits["new"]),
    ):
        found = result(measured=f"2026-11-{day}T08:00:00+00:00", **ratio(value))
        made.add("minilm", found)
        run_records.record(tmp_path, "minilm", found, commit)
    return Project(tmp_path)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        pytest.param(f"{RECIPE}@1", RECIPE, id="number, and the last run"),
        pytest.param(f"minilm/{RECIPE}@2026-11-20", f"{RECIPE}@3", id="date and number"),
        pytest.param(f"{RECIPE}@old", f"{RECIPE}@new", id="a recipe at two commits"),
        pytest.param("old", "new", id="two commits"),
    ],
)
def test_runs_of_a_history_are_found(volume: Project, a: str, b: str) -> None:
    [comparison] = compare(volume, a, b)
    assert (comparison.before.result.latency_ratio, comparison.after.result.latency_ratio) == (0.22, 0.30)
    assert comparison.regressions == ["latency over fp32"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (f"{RECIPE}@9", "no measurement of that number"),
        (f"{RECIPE}@2026-11", "3 of its measurements have that date"),
        (f"{RECIPE[:-1]}", f"did you mean '{RECIPE}'"),
        ("", "names no run"),
        ("new", "names no run"),
    ],
)
def test_what_names_no_run_is_said(volume: Project, text: str, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        compare(volume, RECIPE, text)


def test_a_recipe_of_several_models_must_be_named_in_full(volume: Project) -> None:
    Volume(root=volume.artifacts).add("other", result())
    with pytest.raises(UsageError, match="several models") as caught:
        compare(volume, RECIPE, RECIPE)
    assert f"other/{RECIPE}" in caught.value.hint
