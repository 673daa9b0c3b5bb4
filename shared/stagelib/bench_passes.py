"""The processes that measure, one after the other, each with the session settings that a search before it chose."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stagelib import tuning
from stagelib.api import Call, StageError
from stagelib.bench_worker import Mode, Outcome, Spec
from stagelib.processes import ended
from stagelib.runtimes.base import Options, Runtime, tunable
from stagelib.tuning import Trial

if TYPE_CHECKING:
    from stagelib.stages.benchmark import Params

WORKER = "stagelib.bench_worker"
MEASURING = 5
"""Passes at the most, beside those that search; all share the progress evenly."""


@dataclass(kw_only=True)
class Search:
    """The settings found for one number of threads."""

    threads: int
    default: Mapping[str, Any] = field(default_factory=dict)
    """All that the runtime is told by default; empty where nothing was tried."""
    trials: tuple[Trial, ...] = ()
    again: Trial | None = None
    """The fastest of these in a second process, beside the default alone: only there does it win."""
    chosen: Trial | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """All that the runtime was told in the pass that measured."""

    @property
    def options(self) -> Options:
        return self.chosen.options if self.chosen else {}


class Passes:
    """All passes of one benchmark. On a device there is one, whose baseline has every CPU."""

    def __init__(self, call: Call, params: Params, runtime: Runtime, cpus: list[int], *, on_device: bool) -> None:
        self.cpus = cpus
        self.threads = len(cpus) if on_device else 1
        self.searches: dict[str, Search] = {}
        """By the pass that they are for."""
        self._call = call
        self._params = params
        self._runtime = tunable(runtime) if params.search_seconds else None
        self._on_device = on_device
        self._done = 0
        self._total = MEASURING + (0 if self._runtime is None else 2 if on_device else 4)
        # The last CPU: interrupts and other people's processes tend to sit on the first.
        self._pinned = None if on_device else tuple(cpus[-1:])

    def main(self) -> Outcome:
        """The figures that gate."""
        block = self._params.device_block if self._on_device else 1
        return self._compare("one_thread", self.threads, self._pinned, block)

    def everything(self) -> Outcome:
        """Candidate and baseline on every CPU."""
        return self._compare("all_threads", len(self.cpus), None, 1)

    def first(self, *, cold: bool) -> Outcome:
        """Loading and the first inference."""
        return self._run("first", threads=len(self.cpus), cold=cold, options=self._on_all())

    def sustained(self) -> Outcome:
        """The candidate alone."""
        return self._run("sustained", threads=len(self.cpus), options=self._on_all())

    def _on_all(self) -> Options:
        """The options for every CPU, as far as they were searched."""
        search = self.searches.get("one_thread" if self._on_device else "all_threads")
        return search.options if search else {}

    def _compare(self, name: str, threads: int, cpus: tuple[int, ...] | None, block: int) -> Outcome:
        search = self.searches[name] = self._search(threads, cpus, block)
        outcome = self._run("compare", threads=threads, cpus=cpus, block=block, options=search.options)
        search.settings = outcome.settings
        return outcome

    def _search(self, threads: int, cpus: tuple[int, ...] | None, block: int) -> Search:
        """What wins among all must win again, in a fresh process: the best of several is the best by luck, too."""
        search, seed = Search(threads=threads), self._params.seed
        offered = self._runtime.candidates(self._params.device, threads) if self._runtime else {}
        if not offered:
            return search
        where: dict[str, Any] = {"threads": threads, "cpus": cpus, "block": block}
        search.default, search.trials = self._tried(offered, **where)
        if best := tuning.fastest(search.trials, seed):
            _, (search.again,) = self._tried({best.name: best.options}, **where, default_last=True)
            search.chosen = tuning.fastest([search.again], seed)
        return search

    def _tried(self, offered: Mapping[str, Options], **how: Any) -> tuple[Mapping[str, Any], tuple[Trial, ...]]:
        """What the runtime is told by default, and a trial of each setting.

        A pass that fails refuses all it was to try, and the default stays: it holds several sessions at once, for which
        memory may be short where it does for one. What else is wrong shows when the model is measured.
        """
        try:
            found = self._run("search", offered=offered, **how)
        except StageError as error:
            self._call.log(f"session settings: the default ones stay: {error.message}")
            why = f"the search failed: {error.message}"
            return {}, tuple(Trial(name=name, options=dict(one), refused=why) for name, one in offered.items())
        return found.settings, tuple(Trial(**one) for one in found.trials)

    def _run(
        self,
        mode: Mode,
        *,
        threads: int,
        cpus: tuple[int, ...] | None = None,
        block: int = 1,
        cold: bool = False,
        options: Options | None = None,
        offered: Mapping[str, Options] | None = None,
        default_last: bool = False,
    ) -> Outcome:
        """One pass in its own process, waited for without using the CPU."""
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
            cpus=cpus,
            threads=threads,
            block=block,
            cold=cold,
            options=dict(options or {}),
            offered={name: dict(value) for name, value in (offered or {}).items()},
            default_last=default_last,
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
        self._call.progress(number / self._total, "loading and warming up")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment()) as worker:
            try:
                for line in worker.stdout or ():
                    self._call.progress((number + float(line)) / self._total, "measuring")
            except BaseException:
                # Otherwise leaving the block would wait for it, or an interrupt leave it behind.
                worker.kill()
                raise
        if not result.is_file():
            raise StageError(f"the benchmark's process {ended(worker.returncode)}", hint="its output is in the log")


def _environment() -> dict[str, str]:
    """The worker finds this library wherever the stage itself found it."""
    return dict(os.environ) | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
