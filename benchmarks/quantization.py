"""OpenVINO and QDQ quantization beside the stock calls they replace: CPU seconds, wall, peak memory, similarity.

`python -m benchmarks.quantization nncf|qdq --model FOLDER --texts FOLDER [--samples N] [--repeats N]`, with the python
of the toolchain `openvino` for `nncf`, of `ort` for `qdq`, from the repository's root. `--model` is an artifact with
`model.onnx` (free shape for `nncf`, fixed for `qdq`), `--texts` what `tokenize` wrote. Each side runs in a process of
its own, imports included, the two in turn; what is printed the operating system counted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

SHARED = Path(__file__).resolve().parents[1] / "shared"
SIDES = ("stock", "ours")
LENGTH = 128


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one process cost."""

    cpu_s: float
    wall_s: float
    peak_mb: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Every repeat of both sides, the ratios of ours to stock, and how like fp32 each result is: mean and least."""

    stock: list[Cost]
    ours: list[Cost]
    cpu_ratios: list[float]
    peak_ratios: list[float]
    similarity: dict[str, tuple[float, float]]


def compare(kind: str, model: Path, texts: Path, samples: int, repeats: int) -> Comparison:
    """Quantize `repeats` times each way, in turn; subprocess.CalledProcessError where a side fails."""
    costs: dict[str, list[Cost]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as scratch:
        made = {side: Path(scratch) / side for side in SIDES}
        for folder in made.values():
            folder.mkdir()
        for _ in range(repeats):
            for side in SIDES:
                given = [kind, side, str(model), str(texts), str(samples), str(made[side])]
                costs[side].append(_cost([sys.executable, "-m", "benchmarks.quantization_sides", *given]))
        entry = "model.xml" if kind == "nncf" else "model.onnx"
        given = [str(model / "model.onnx"), str(texts), *(str(made[side] / entry) for side in SIDES)]
        command = [sys.executable, "-m", "benchmarks.quantization_sides", "similarity", *given]
        found = json.loads(subprocess.run(command, env=_environment(), check=True, capture_output=True).stdout)
    pairs = list(zip(costs["ours"], costs["stock"], strict=True))
    return Comparison(
        stock=costs["stock"],
        ours=costs["ours"],
        cpu_ratios=[ours.cpu_s / stock.cpu_s for ours, stock in pairs],
        peak_ratios=[ours.peak_mb / stock.peak_mb for ours, stock in pairs],
        similarity={side: (one[0], one[1]) for side, one in zip(SIDES, found, strict=True)},
    )


def _cost(command: Sequence[str]) -> Cost:
    started = time.perf_counter()
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, env=_environment(), stdout=quiet, stderr=quiet) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    wall = time.perf_counter() - started
    return Cost(cpu_s=usage.ru_utime + usage.ru_stime, wall_s=wall, peak_mb=usage.ru_maxrss / 1024)


def _environment() -> dict[str, str]:
    # NNCF and its telemetry report each use to their maker unless they see a CI.
    path = os.pathsep.join([str(SHARED), str(SHARED.parent)])
    return {**os.environ, "PYTHONPATH": path, "CI": "true", "NNCF_CI": "1"}


def text(comparison: Comparison) -> str:
    """The comparison in lines to read."""
    lines: list[str] = []
    for side, costs in (("stock", comparison.stock), ("ours", comparison.ours)):
        mean, least = comparison.similarity[side]
        lines += [
            f"{side:5} {cost.cpu_s:7.1f} CPU s {cost.wall_s:7.1f} s wall {cost.peak_mb:6.0f} MB peak" for cost in costs
        ]
        lines.append(f"{side:5} similarity {mean:.5f}, least {least:.5f}")
    for name, ratios in (("CPU", comparison.cpu_ratios), ("peak", comparison.peak_ratios)):
        lines.append(f"{name} ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.quantization", description="Quantization beside the stock calls.")
    parser.add_argument("kind", choices=("nncf", "qdq"))
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--samples", type=int)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(argv)
    samples = given.samples or (300 if given.kind == "nncf" else 64)
    found = compare(given.kind, given.model.resolve(), given.texts.resolve(), samples, given.repeats)
    print(json.dumps(asdict(found)) if given.json else text(found))


if __name__ == "__main__":
    main()
