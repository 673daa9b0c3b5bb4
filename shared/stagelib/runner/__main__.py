"""`python -m stagelib.runner verify` and `… bench`, in the folder that a bundle was unpacked to.

Exit code 0: all is well. 1: a check or a gate failed, and says which. 2: the command or the bundle is wrong.
130: stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stagelib.api import Call, StageError
from stagelib.machinelock import MEASURING, machine_wide
from stagelib.modelinfo import ModelInfo
from stagelib.runner import result
from stagelib.runner.checks import Check
from stagelib.runner.compatibility import deployable
from stagelib.runner.contents import BATCHES, FILE, REFERENCE, UNPACK, Contents, Execution
from stagelib.runner.session import checks
from stagelib.stages import benchmark

FAILED, WRONG, STOPPED = 1, 2, 130


def main(argv: list[str]) -> int:
    options = _options(argv)
    try:
        if options.command == "bench":
            _check_writable(options.out)
        contents = Contents.read(options.bundle)
        execution = contents.execution(options.device)
        params = _params(contents, execution)
        # On Windows a loaded model's file can't be removed: what is left there is the system's to sweep.
        with tempfile.TemporaryDirectory(prefix="portwright-", ignore_cleanup_errors=True) as scratch:
            found = []
            for check in checks(
                options.bundle, contents, execution, options.variant, Path(scratch), options.min_cosine
            ):
                print(check.line(), flush=True)
                found.append(check)
            failed = [check.name for check in found if check.passed is False]
            if failed:
                print(f"verify: failed: {', '.join(failed)}", file=sys.stderr)
                return FAILED
            if options.command == "verify":
                print(f"verify: {contents.recipe} is fit to run on {execution.title}")
                return 0
            try:
                return _bench(options, contents, execution, params, found, Path(scratch))
            except StageError as error:
                # The command and the bundle are right: what has just run before has failed while it was measured.
                return _ended(FAILED, error)
    except StageError as error:
        return _ended(WRONG, error)
    except KeyboardInterrupt:
        print("stopped: no result was written", file=sys.stderr)
        return STOPPED


def _ended(code: int, error: StageError) -> int:
    print(f"error: {error.message}" + (f"\n  try: {error.hint}" if error.hint else ""), file=sys.stderr)
    return code


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stagelib.runner", description="Check and measure a bundle.")
    parser.add_argument("command", choices=("verify", "bench"))
    parser.add_argument("--bundle", type=Path, default=Path(), help="the unpacked bundle; the current folder")
    parser.add_argument("--device", help="a name from bundle.json; cpu stands in for a device, where it can")
    parser.add_argument("--variant", help="the compiled file to run, where deploy/ holds one for each chip")
    parser.add_argument("--min-cosine", type=float, help="the least cosine with the golden embeddings")
    parser.add_argument("--out", type=Path, default=Path("result.json"), help="where bench writes its result")
    options = parser.parse_args(argv)
    options.bundle = options.bundle.resolve()
    return options


def _check_writable(out: Path) -> None:
    """StageError where the result couldn't be written: told before it is measured, not after."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise StageError(f"the result can't be written to {out}: {error}", hint="name another place by --out") from None


def _params(contents: Contents, execution: Execution) -> benchmark.Params:
    """Parameters of the benchmark; StageError for those of another one."""
    try:
        return benchmark.Params(runtime=execution.runtime, device=execution.device, **contents.benchmark)
    except (TypeError, ValueError) as error:
        raise StageError(f"{FILE}: benchmark: {error}", hint=UNPACK) from None


def _bench(
    options: argparse.Namespace,
    contents: Contents,
    execution: Execution,
    params: benchmark.Params,
    found: list[Check],
    scratch: Path,
) -> int:
    """Measure, and evaluate against fp32 if the bundle brings it; write the result."""
    from stagelib.runtimes.base import find_runtime

    root = options.bundle
    inputs = {"executable": deployable(root, options.variant, scratch / "bench"), "batches": root / BATCHES}
    reference = root / REFERENCE
    if reference.is_dir():
        inputs["reference"] = reference
    with (scratch / "events").open("w", encoding="utf-8") as events:
        call = Call(stage="benchmark", inputs=inputs, output=scratch, scratch=scratch, events=events)
        with machine_wide(MEASURING, _Waiting()):
            print("bench: measuring; leave the machine alone meanwhile", flush=True)
            facts = benchmark.run(call, params).facts
        cosines = None
        if reference.is_dir():
            cosines = _similarity(inputs, execution)
    executed_on = find_runtime(execution.runtime).executed_on(execution.device)
    document = result.build(root, contents, execution, executed_on, facts, cosines, found)
    options.out.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    latency = document["latency_ms"]
    print(f"bench: p50 {latency['p50']:.3f} ms on {document['device']} ({executed_on}), {document['verdict']}")
    print(f"bench: {options.out}")
    for gate in document["gates"]:
        if gate["passed"] is False:
            print(f"bench: gate {gate['name']}: {gate['reason']}", file=sys.stderr)
    return FAILED if document["status"] == "failed" else 0


class _Waiting:
    """Says once that another benchmark has the machine."""

    def __init__(self) -> None:
        self._said = False

    def __call__(self) -> None:
        if not self._said:
            print("bench: waiting for another benchmark of this machine", flush=True)
        self._said = True


def _similarity(inputs: Mapping[str, Path], execution: Execution) -> dict[str, Any]:
    """Cosines of the evaluation texts' embeddings, what executes here against fp32 on the processor."""
    from stagelib import batches, similarity
    from stagelib.embedding import embed_rows
    from stagelib.runtimes import onnxruntime
    from stagelib.runtimes.base import find_runtime

    rows = batches.read_rows(inputs["batches"], batches.EVALUATION)
    size = ModelInfo.read(inputs["executable"]).inputs[0].shape[0]
    assert isinstance(size, int)
    runtime = find_runtime(execution.runtime)
    left = embed_rows(runtime.load(inputs["executable"], device=execution.device, threads=None), rows, size)
    right = embed_rows(onnxruntime.load(inputs["reference"], threads=None), rows, size)
    return {**similarity.summarize(similarity.cosines(left, right)), "inputs_sha256": batches.digest(rows)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
