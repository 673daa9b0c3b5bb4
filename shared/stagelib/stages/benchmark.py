"""Latency against ONNX Runtime fp32 of the same model: on one pinned thread, then on all CPUs; or on a device."""

from __future__ import annotations

from dataclasses import dataclass

from stagelib.api import Call, Result, Stage

LONGEST_SEARCH_S = 60
"""Nothing else is measured on the machine meanwhile."""


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
    search_seconds: float = 3.0
    """How long, at the least, session settings are tried for one thread and again for all; 0 keeps the default ones."""
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
        if not 0 <= self.search_seconds <= LONGEST_SEARCH_S:
            raise ValueError(f"search_seconds must lie between 0 and {LONGEST_SEARCH_S}")
        if self.device_block < 1:
            raise ValueError("device_block must be at least 1")
        if self.seed < 0:
            raise ValueError("seed must be at least 0")


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

    First the session settings: the candidate runs with the fastest valid ones found, the baseline with the stock ones.
    On a CPU one pinned thread gives the figures, and all CPUs stand beside them. On a device there is one pass, whose
    baseline has every CPU. The planner always gives a reference; a bundle on its device may have none, and then there
    is no ratio.
    """
    from stagelib import bench_facts, machine
    from stagelib.bench_passes import Passes
    from stagelib.runtimes.base import find_runtime

    runtime = find_runtime(params.runtime)
    executed_on = runtime.executed_on(params.device)
    passes = Passes(call, params, runtime, machine.allowed_cpus(), on_device=executed_on == "device")
    environment = machine.describe_machine() | {"before": machine.conditions(passes.cpus[-1])}
    timed = passes.main()
    environment |= {"after": timed.conditions, "load_average_after": machine.load_average()}
    everything = passes.everything() if timed.baseline_ms and executed_on != "device" else None
    cold, warm = passes.first(cold=True), passes.first(cold=False)
    sustained = passes.sustained() if params.sustained_seconds else None
    environment |= {"after_sustained": sustained.conditions if sustained else None}
    environment |= {"threads": passes.threads, "affinity": timed.affinity, "cpu_share": bench_facts.cpu_share(timed)}
    environment["versions"] = machine.versions({*runtime.PACKAGES, *STAGE.needs})
    searches = passes.searches
    facts = bench_facts.compared(timed, params.min_runs, params.seed, passes.threads) | {
        "protocol": bench_facts.PROTOCOL,
        "load_s": round(timed.load_s, 4),
        "first_inference": bench_facts.first_inference(cold, warm),
        "sustained": bench_facts.sustained(sustained) if sustained else None,
        "all_threads": bench_facts.all_threads(everything, params.seed, len(passes.cpus)) if everything else None,
        "session_settings": {name: bench_facts.session_settings(one, params.seed) for name, one in searches.items()},
        "environment": environment,
        "executed_on": executed_on,
    }
    call.progress(1.0)
    named = (("one_thread", timed), ("all_threads", everything), ("sustained", sustained))
    lines = [line for name, outcome in named if outcome for line in bench_facts.samples(name, outcome)]
    lines += [line for name, one in searches.items() for line in bench_facts.search_samples(name, one)]
    return Result(facts=facts, samples=lines)
