"""OpenVINO and QDQ quantization beside the stock calls they replace: CPU seconds, wall, peak memory, similarity.

`python -m benchmarks.quantization nncf|qdq --model FOLDER --texts FOLDER [--real FOLDER --real-texts FOLDER]
[--samples N] [--repeats N]`, with the python of the toolchain `openvino` for `nncf`, of `ort` for `qdq`, from the
repository's root. `--model` is an artifact with `model.onnx` (free shape for `nncf`, fixed for `qdq`), `--texts` what
`tokenize` wrote. Each side runs in a process of its own, imports included, the two in turn; what is printed the
operating system counted. `--real` is a second model, quantized once by each side for its similarity alone: random
weights have a cost, but nothing to lose.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure, markdown
from benchmarks.processes import ROOT, Cost, leaving_in_order, succeeded, timed

SIDES = ("stock", "ours")
LENGTH = 128
LIMITS = {"nncf": {"CPU": 0.5}, "qdq": {"CPU": 0.5, "peak": 0.5}}
"""Of what the stock call takes."""


@dataclass(frozen=True)
class Work:
    """A model, and the texts it is calibrated and held against fp32 on."""

    model: Path
    texts: Path


def figures(kind: str, work: Work, real: Work | None, samples: int, repeats: int) -> Iterator[Figure]:
    """Quantize `repeats` times each way, in turn; RuntimeError with the last lines of a side that fails."""
    with tempfile.TemporaryDirectory() as scratch:
        costs, alike = _quantized(kind, work, samples, repeats, Path(scratch) / "work")
        if real:
            _, alike = _quantized(kind, real, samples, 1, Path(scratch) / "real")
    whose = ", real weights" if real else ""
    for name, unit, taken in (
        ("CPU", "s", {side: [cost.cpu_s for cost in costs[side]] for side in SIDES}),
        ("wall", "s", {side: [cost.wall_s for cost in costs[side]] for side in SIDES}),
        ("peak", "MB", {side: [cost.peak_bytes / 1e6 for cost in costs[side]] for side in SIDES}),
        (f"1 - mean cosine with fp32{whose}", "‰", {side: [1000 * (1 - alike[side][0])] for side in SIDES}),
        (f"1 - least cosine with fp32{whose}", "‰", {side: [1000 * (1 - alike[side][1])] for side in SIDES}),
    ):
        limit = LIMITS[kind].get(name)
        full = f"{kind}, {name}"
        yield Figure(name=full, unit=unit, ours=taken["ours"], against=taken["stock"], beside="stock", limit=limit)


def _quantized(
    kind: str, work: Work, samples: int, repeats: int, scratch: Path
) -> tuple[dict[str, list[Cost]], dict[str, tuple[float, float]]]:
    """What each side took, and its mean and least cosine with fp32."""
    costs: dict[str, list[Cost]] = {side: [] for side in SIDES}
    made = {side: scratch / side for side in SIDES}
    for folder in made.values():
        folder.mkdir(parents=True)
    # ONNX Runtime's call wants one file; the stage is given what the stage before it makes, its weights in pieces.
    stock = _in_one_file(work.model, scratch / "whole") if kind == "qdq" else work.model
    models = {"ours": work.model, "stock": stock}
    for repeat in range(repeats):
        # Each is first in turn: whoever is reads from a disk what the other finds in memory.
        for side in reversed(SIDES) if repeat % 2 else SIDES:
            costs[side].append(_run(kind, side, str(models[side]), str(work.texts), str(samples), str(made[side])))
    entry = "model.xml" if kind == "nncf" else "model.onnx"
    found = scratch / "similarity.json"
    judged = (str(made[side] / entry) for side in SIDES)
    _run("similarity", str(found), str(stock / "model.onnx"), str(work.texts), *judged)
    return costs, dict(zip(SIDES, json.loads(found.read_text()), strict=True))


def _in_one_file(model: Path, scratch: Path) -> Path:
    """The model as the stock call reads it; an artifact has its weights in pieces."""
    scratch.mkdir()
    _run("whole", str(model), str(scratch))
    return scratch if any(scratch.iterdir()) else model


def _run(*given: str) -> Cost:
    """One call of `benchmarks.quantization_sides`, which ended well."""
    command = [sys.executable, "-m", "benchmarks.quantization_sides", *given]
    return succeeded(timed(command, _environment()), " ".join(given[:2]))


def _environment() -> dict[str, str]:
    # NNCF and its telemetry report each use to their maker unless they see a CI.
    return {"PYTHONPATH": os.pathsep.join([str(ROOT / "shared"), str(ROOT)]), "CI": "true", "NNCF_CI": "1"}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.quantization", description="Quantization beside the stock calls.")
    parser.add_argument("kind", choices=("nncf", "qdq"))
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--real", type=Path, help="a second model, for similarity")
    parser.add_argument("--real-texts", type=Path, help="and its texts")
    parser.add_argument("--samples", type=int)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args(argv)
    if bool(given.real) != bool(given.real_texts):
        parser.error("--real and --real-texts go together")
    samples = given.samples or (300 if given.kind == "nncf" else 64)
    work = Work(given.model.resolve(), given.texts.resolve())
    real = Work(given.real.resolve(), given.real_texts.resolve()) if given.real else None
    print(markdown(list(figures(given.kind, work, real, samples, given.repeats))))


if __name__ == "__main__":
    with leaving_in_order():
        main()
