"""Latency against ONNX Runtime fp32 of the same model: on one pinned thread, then on all CPUs; or on a device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stagelib.api import Call, Result, Stage, StageError

if TYPE_CHECKING:
    from stagelib.bench_worker import Outcome

WORKER = "stagelib.bench_worker"
Mode = Literal["compare", "first", "sustained"]
PASSES = 5
"""At the most: they share the progress evenly."""


@dataclass(frozen=True, kw_only=True)
class Params:
    """How long to measure."""

    runtime: str
    device: str
    warmup_max: int = 100
    """Pairs of runs after which the warm-up ends even if latency has not settled."""
    min_runs: int = 30
    """On one pinned CPU up to eight times as many, until the ratio is known to 1.5 %."""
    min_seconds: float = 2.0
    max_seconds: float = 120.0
    """Longest a pass may time pairs; with fewer than `min_runs` by then the verdict is `invalid`."""
    sustained_seconds: float = 5.0
    """One inference after the other for so long, to see whether heat or clocks slow it down; 0 leaves it out."""
    device_block: int = 10
    """Runs of one side before it is the other's turn, where a device executes; on a CPU it is one."""
    seed: int = 0
    """Draws the texts and the bootstrap."""

    def __post_init__(self) -> None:
        if self.min_runs < 2:  # noqa: PLR2004 - an interval needs two
            raise ValueError("min_runs must be at least 2")
        if self.warmup_max < 0:
            raise ValueError("warmup_max must be at least 0")
        if not 0 <= self.min_seconds <= self.max_seconds:
            raise ValueError("min_seconds must lie between 0 and max_seconds")
        if self.sustained_seconds < 0:
            raise ValueError("sustained_seconds must be at least 0")
        if self.device_block < 1:
            raise ValueError("device_block must be at least 1")


STAGE = Stage(
    summary="measure latency, interleaved with the fp32 baseline",
    inputs=("executable", "reference", "batches"),
    params=Params,
    needs=("onnxruntime", "numpy"),
    kind="measurement",
    runtime=True,
    internal=True,
    exclusive=True,
)


def run(call: Call, params: Params) -> Result:
    """Each pass in a fresh process; StageError where a model can't be loaded or a pass dies.

    On a CPU one pinned thread gives the figures, and all CPUs stand beside them. On a device there is one pass, whose
    baseline has every CPU. The planner always gives a reference; a bundle on its device may have none, and then there
    is no ratio.
    """
    from stagelib import bench_facts, machine
    from stagelib.runtimes.base import find_runtime

    runtime = find_runtime(params.runtime)
    executed_on = runtime.executed_on(params.device)
    passes = _Passes(call, params, machine.allowed_cpus(), on_device=executed_on == "device")
    environment = machine.describe_machine() | {"before": machine.conditions(passes.cpus[-1])}
    timed = passes.main()
    environment |= {"after": timed.conditions, "load_average_after": machine.load_average()}
    everything = passes.everything() if timed.baseline_ms and executed_on != "device" else None
    cold, warm = passes.first(cold=True), passes.first(cold=False)
    sustained = passes.sustained() if params.sustained_seconds else None
    environment |= {"after_sustained": sustained.conditions if sustained else None}
    environment |= {"threads": passes.threads, "affinity": timed.affinity, "cpu_share": bench_facts.cpu_share(timed)}
    environment["versions"] = machine.versions({*runtime.PACKAGES, *STAGE.needs})
    facts = bench_facts.compared(timed, params.min_runs, params.seed, passes.threads) | {
        "protocol": bench_facts.PROTOCOL,
        "load_s": round(timed.load_s, 4),
        "first_inference": bench_facts.first_inference(cold, warm),
        "sustained": bench_facts.sustained(sustained) if sustained else None,
        "all_threads": bench_facts.all_threads(everything, params.seed, len(passes.cpus)) if everything else None,
        "environment": environment,
        "executed_on": executed_on,
    }
    call.progress(1.0)
    named = (("one_thread", timed), ("all_threads", everything), ("sustained", sustained))
    lines = [line for name, outcome in named if outcome for line in bench_facts.samples(name, outcome)]
    return Result(facts=facts, samples=lines)


class _Passes:
    """The processes that measure, one after the other."""

    def __init__(self, call: Call, params: Params, cpus: list[int], *, on_device: bool) -> None:
        self.cpus = cpus
        self.threads = len(cpus) if on_device else 1
        self._call = call
        self._params = params
        self._on_device = on_device
        self._done = 0

    def main(self) -> Outcome:
        """The figures that gate."""
        # The last CPU: interrupts and other people's processes tend to sit on the first.
        pinned = None if self._on_device else self.cpus[-1:]
        block = self._params.device_block if self._on_device else 1
        return self._run("compare", cpus=pinned, threads=self.threads, block=block)

    def everything(self) -> Outcome:
        """Candidate and baseline on every CPU."""
        return self._run("compare", threads=len(self.cpus))

    def first(self, *, cold: bool) -> Outcome:
        """Loading and the first inference."""
        return self._run("first", threads=len(self.cpus), cold=cold)

    def sustained(self) -> Outcome:
        """The candidate alone."""
        return self._run("sustained", threads=len(self.cpus))

    def _run(
        self, mode: Mode, *, threads: int, cpus: list[int] | None = None, block: int = 1, cold: bool = False
    ) -> Outcome:
        """One pass in its own process, waited for without using the CPU."""
        from stagelib.bench_worker import Outcome, Spec

        call, number = self._call, self._done
        self._done += 1
        result = call.scratch / f"pass-{number}.result.json"
        given = {name: value for name, value in asdict(self._params).items() if name != "device_block"}
        spec = Spec(
            mode=mode,
            model=str(call.input("executable")),
            reference=str(call.input("reference")) if "reference" in call.inputs else None,
            batches=str(call.input("batches")),
            **given,
            cpus=tuple(cpus) if cpus else None,
            threads=threads,
            block=block,
            cold=cold,
            result=str(result),
            parent_pid=os.getpid(),
        )
        path = call.scratch / f"pass-{number}.json"
        path.write_text(json.dumps(asdict(spec)))
        self._wait([sys.executable, "-m", WORKER, str(path)], result, number)
        outcome = Outcome(**json.loads(result.read_text()))
        if outcome.error:
            kind: Any = outcome.kind
            raise StageError(outcome.error, hint=outcome.hint, kind=kind)
        return outcome

    def _wait(self, command: list[str], result: Path, number: int) -> None:
        self._call.progress(number / PASSES, "loading and warming up")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment()) as worker:
            for line in worker.stdout or ():
                self._call.progress((number + float(line)) / PASSES, "measuring")
        if not result.is_file():
            raise StageError(
                f"the benchmark's process ended with code {worker.returncode}", hint="its output is in the log"
            )


def _environment() -> dict[str, str]:
    """The worker finds this library wherever the stage itself found it."""
    return dict(os.environ) | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
