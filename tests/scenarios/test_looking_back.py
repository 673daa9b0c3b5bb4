"""Measuring twice, and what report, history and compare then say; a gate just above reach."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.commands import ROOT, Finished, Portwright, read_json
from support.seeds import Seeds

QDQ = "looking"
COARSE = "coarse"
Ask = Callable[[str, Path], Finished]
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def recipe(folder: Path, name: str, **changes: Any) -> Path:
    """The cpu target's quantizing recipe under another name, without its accuracy, measured briefly."""
    value = read_json(ROOT / "targets" / "cpu" / "recipes" / "bert-base-portuguese-cased_qdq_cpu.json")
    del value["accuracy"], value["gates"]["accuracy"]
    value |= {
        "name": name,
        "benchmark": {"min_runs": 8, "min_seconds": 0.5, "sustained_seconds": 0, "search_seconds": 0},
    } | changes
    path = folder / f"{name}.json"
    path.write_text(json.dumps(value))
    return path


def quantile(ordered: list[float], share: float) -> float:
    """Linear between the two nearest samples, as every statistics package has it."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


@pytest.mark.scenario
def test_measured_twice_and_looked_back_on(
    portwright: Portwright, seeds: Seeds, tmp_path: Path, minilm: Path, texts: Path
) -> None:
    seeds.hand_on(portwright, minilm, 17)
    qdq = recipe(tmp_path, QDQ)
    stages = [*read_json(qdq)["stages"][:-1], {"stage": "quantize_qdq", "per_channel": False, "down_projections": True}]
    gates = {"similarity": {"mean": 0.1, "min": 0.1}, "placement": {"on": ["CPUExecutionProvider"]}}
    coarse = recipe(tmp_path, COARSE, stages=stages, gates=gates)

    def ask(command: str, path: Path) -> Finished:
        return portwright.run(
            command, "--target=cpu", f"--recipe={path}", f"--model={minilm}", f"--data={texts}", "--engine=venv"
        )

    for command, path in (("run", qdq), ("bench", qdq), ("run", coarse)):
        done = ask(command, path)
        assert done.code == 0, done.text
    again = ask("run", qdq)
    assert (again.code, "Nothing to do" in again.out) == (0, True), again.text

    history = portwright.run("history", f"--recipe={QDQ}")
    assert history.code == 0, history.text
    numbers = [row.split()[0] for row in history.out.splitlines() if row[:3].strip().isdigit()]
    assert numbers == ["1", "2"], history.out
    same = portwright.run("compare", f"{QDQ}@1", f"{QDQ}@2", "--fail-on-regression")
    assert (same.code, "regression" in same.out) == (0, False), same.text

    worse = portwright.run("compare", QDQ, COARSE, "--fail-on-regression")
    assert worse.code == 3, worse.text
    assert "similarity, mean of coarse" in worse.text
    assert portwright.run("compare", QDQ, COARSE).code == 0

    statistics_are_the_samples(portwright)
    reports_agree(portwright, tmp_path)
    a_gate_just_above_what_is_reached(portwright, ask, tmp_path)


def statistics_are_the_samples(portwright: Portwright) -> None:
    """Every figure of the result, recomputed from the raw samples of the measurement it names."""
    result = portwright.result("minilm", QDQ)
    rows = map(json.loads, (portwright.view("minilm", QDQ) / "measurements.jsonl").read_text().splitlines())
    timed = [row for row in rows if row.get("pass") == "one_thread"]
    ordered = sorted(row["candidate_ms"] for row in timed)
    stated = result["latency_ms"]
    assert stated["min"] <= stated["p50"] <= stated["p90"] <= stated["p99"] <= stated["max"]
    assert stated["min"] <= stated["mean"] <= stated["max"]
    assert (stated["min"], stated["max"]) == pytest.approx((ordered[0], ordered[-1]), rel=1e-6)
    assert stated["mean"] == pytest.approx(sum(ordered) / len(ordered), rel=1e-6)
    for name, share in PERCENTILES.items():
        assert stated[name] == pytest.approx(quantile(ordered, share), rel=1e-6), name
    pairs = sorted(timed, key=lambda row: row["candidate_cpu_ms"] * row["baseline_cpu_ms"])
    quiet = [row["candidate_cpu_ms"] / row["baseline_cpu_ms"] for row in pairs[: max(15, math.ceil(0.15 * len(pairs)))]]
    assert result["latency_ratio"] == pytest.approx(statistics.median(quiet), abs=1e-5)
    assert result["latency_ratio_interval"][0] <= result["latency_ratio"] <= result["latency_ratio_interval"][1]


def reports_agree(portwright: Portwright, tmp_path: Path) -> None:
    """HTML, Markdown and JSON are of the same runs."""
    for form in ("html", "markdown", "json"):
        done = portwright.run("report", f"--format={form}", f"--out={tmp_path / form}")
        assert done.code == 0, done.text
    page, text = (tmp_path / "html").read_text(), (tmp_path / "markdown").read_text()
    whole = read_json(tmp_path / "json")
    ratio = portwright.result("minilm", QDQ)["latency_ratio"]
    assert f"{ratio:.3f}" in page
    assert QDQ in text
    assert QDQ in json.dumps(whole)
    assert str(portwright.artifacts) not in page


def a_gate_just_above_what_is_reached(portwright: Portwright, ask: Ask, tmp_path: Path) -> None:
    """The same model, held to a little more than it has: the run fails, says why, and rejects what it made."""
    reached = portwright.result("minilm", QDQ)["similarity"]["mean"]
    gates = {"similarity": {"mean": reached + 1e-5, "min": 0.5}, "placement": {"on": ["CPUExecutionProvider"]}}
    done = ask("run", recipe(tmp_path, "above", gates=gates))
    assert done.code == 3, done.text
    assert done.out.startswith("FAILED above: gate similarity"), done.out
    result = portwright.result("minilm", "above")
    assert result["status"] == "failed"
    assert result["layer_errors"]
    assert (portwright.view("minilm", "above") / "deploy" / "REJECTED.txt").is_file()
