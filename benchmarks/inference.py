"""int8 on this processor against ONNX Runtime fp32: what OpenVINO makes of it, and the best that ONNX Runtime does.

`python -m benchmarks.inference --model FOLDER --texts FOLDER [--only NAME,…] [--samples N] [--repeats N] [--limit R]`,
with the python of the toolchain `openvino` (fused attention wants sympy beside it), from the repository's root, with
`shared` on PYTHONPATH. `--model` is an artifact with the fp32 model at its fixed shape, `--texts` what `tokenize`
wrote. Each model is measured by the `benchmark` stage itself: processes of its own, in turn with fp32, on one pinned
thread and then on all; with stock session settings on both sides, where the stage would search some for the candidate.
VNNI multiplies four times as many 8-bit numbers a clock as fp32 has, so that 0.25 is its limit; AMX has none such.
ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI in the environment keeps OpenVINO from AMX.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, markdown
from benchmarks.inference_models import CANDIDATES, Candidate
from benchmarks.processes import leaving_in_order
from stagelib import batches, embedding, machine, similarity
from stagelib.api import Call, StageError
from stagelib.runtimes.base import find_runtime
from stagelib.stages import benchmark

DEVICE = "CPU"
HELD = "openvino-int8"
"""What `--limit` is asked of."""


@dataclass(kw_only=True)
class Measured:
    """What was found of one candidate: the benchmark's facts, one a repeat, or why there are none."""

    facts: list[Mapping[str, Any]] = field(default_factory=list)
    cosine: float | None = None
    failure: str = ""


def measure(model: Path, texts: Path, names: Sequence[str], samples: int, repeats: int) -> dict[str, Measured]:
    """Make every candidate, then measure all of them `repeats` times in turn."""
    found = {name: Measured() for name in names}
    with tempfile.TemporaryDirectory() as scratch:
        folders = {name: _made(CANDIDATES[name], model, texts, samples, Path(scratch) / name) for name in names}
        for name, made in folders.items():
            if isinstance(made, str):
                found[name].failure = made
            elif CANDIDATES[name].similar:
                found[name].cosine = _cosine(CANDIDATES[name], made, model, texts)
        for repeat in range(repeats):
            for name, made in folders.items():
                if isinstance(made, Path):
                    facts = _benchmark(CANDIDATES[name], made, model, texts)
                    found[name].facts.append(facts)
                    print(f"{repeat + 1}/{repeats} {name}: {facts['latency_ratio']:.3f}", file=sys.stderr, flush=True)
    return found


def _made(candidate: Candidate, model: Path, texts: Path, samples: int, folder: Path) -> Path | str:
    """The folder with the candidate's model; or in words why it can't be made here."""
    if candidate.make is None:
        return model
    folder.mkdir()
    try:
        candidate.make(model, texts, samples, folder)
    except (StageError, ImportError) as error:
        return str(error)
    return folder


def _benchmark(candidate: Candidate, made: Path, model: Path, texts: Path) -> Mapping[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        call = Call(
            stage="benchmark",
            inputs={"executable": made, "reference": model, "batches": texts},
            output=Path(scratch),
            scratch=Path(scratch),
            events=io.StringIO(),
        )
        params = benchmark.Params(runtime=candidate.runtime, device=DEVICE, sustained_seconds=0, search_seconds=0)
        return benchmark.run(call, params).facts


def _cosine(candidate: Candidate, made: Path, model: Path, texts: Path) -> float:
    """Mean cosine of the embeddings with fp32's, on texts that calibrated nothing."""
    rows = batches.read_rows(texts, batches.EVALUATION)
    embeddings = [
        embedding.embed_rows(find_runtime(runtime).load(folder, device=DEVICE, threads=None), rows, 1)
        for runtime, folder in ((candidate.runtime, made), ("onnxruntime", model))
    ]
    return float(similarity.cosines(*embeddings).mean())


def figures(found: Mapping[str, Measured], limit: float | None) -> Iterator[Figure]:
    """Ratios to ONNX Runtime fp32, one thread and all; candidates that could not be made are left out."""
    for name, measured in found.items():
        if not measured.facts:
            continue
        title = CANDIDATES[name].title
        yield Figure(
            name=f"{title}, one pinned thread",
            unit="",
            ours=[facts["latency_ratio"] for facts in measured.facts],
            limit=limit if name == HELD else None,
            note=_note(measured, [facts["latency_ms"] for facts in measured.facts]),
        )
        everything = [facts["all_threads"] for facts in measured.facts]
        yield Figure(
            name=f"{title}, {everything[0]['threads']} threads",
            unit="",
            ours=[one["latency_ratio"] for one in everything],
            note=f"{statistics.median(one['latency_ms']['p50'] for one in everything):.3g} ms",
        )


def _note(measured: Measured, latencies: Sequence[Mapping[str, float]]) -> str:
    verdicts = {facts["verdict"] for facts in measured.facts} - {"valid"}
    parts = [f"{statistics.median(one['p50'] for one in latencies):.3g} ms", *sorted(verdicts)]
    if measured.cosine is not None:
        parts.append(f"cosine {measured.cosine:.4f}")
    return ", ".join(parts)


def described() -> str:
    """The processor, with the instruction sets that decide how fast int8 is."""
    told = machine.describe_machine()
    return f"{told['cpu_model']}, {len(told['cpus_allowed'])} CPUs: {', '.join(told['isa_flags'])}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.inference", description="int8 against ONNX Runtime fp32.")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--only", default=",".join(CANDIDATES), help="names, with commas")
    parser.add_argument("--samples", type=int, default=64, help="texts that calibrate")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, help=f"the highest ratio wanted of {HELD} on one thread")
    parser.add_argument("--out", type=Path, help="all facts, as JSON")
    given = parser.parse_args(argv)
    names = given.only.split(",")
    if unknown := sorted(set(names) - set(CANDIDATES)):
        parser.error(f"no candidate {', '.join(unknown)}; known: {', '.join(CANDIDATES)}")
    # NNCF and its telemetry report each use to their maker unless they see a CI.
    os.environ.update({"CI": "true", "NNCF_CI": "1"})
    found = measure(given.model.resolve(), given.texts.resolve(), names, given.samples, given.repeats)
    print(described())
    print(markdown(list(figures(found, given.limit))))
    for name, measured in found.items():
        if measured.failure:
            print(f"{name}: not made: {measured.failure}")
    if given.out:
        facts = {name: {"cosine": one.cosine, "failure": one.failure, "runs": one.facts} for name, one in found.items()}
        given.out.write_text(json.dumps({"machine": machine.describe_machine(), "found": facts}, indent=1) + "\n")


if __name__ == "__main__":
    with leaving_in_order():
        main()
