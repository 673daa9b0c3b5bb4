"""Session settings that a runtime offers, tried in turn with its default ones: which are valid, which is fastest."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stagelib import measure, timing
from stagelib.api import StageError
from stagelib.runtimes.base import Options, Session, places

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEFAULT = "default"
LEAST_COSINE = 0.99999
"""Of every output on every input with what the default settings answer: rounding passes, other arithmetic doesn't."""
LEAST_GAIN = 0.03
"""What another session of the very same settings may differ by: less is no gain."""
FEWEST_RUNS = 8
"""Of fewer nothing is concluded, and the default stays."""

Load = Callable[[Options], Session]
Outputs = Mapping[str, "NDArray[Any]"]


@dataclass(kw_only=True)
class Trial:
    """One setting's runs, and the default's in turn with them; times in milliseconds, in the order of the runs."""

    name: str
    options: dict[str, str | int]
    refused: str = ""
    """Why it is not valid; it was then not timed."""
    candidate_ms: list[float] = field(default_factory=list)
    baseline_ms: list[float] = field(default_factory=list)
    candidate_cpu_ms: list[float] = field(default_factory=list)
    baseline_cpu_ms: list[float] = field(default_factory=list)

    @property
    def pairs(self) -> tuple[list[float], list[float]]:
        """What decides: CPU time where it was taken, else the time that passed."""
        return (self.candidate_cpu_ms or self.candidate_ms, self.baseline_cpu_ms or self.baseline_ms)

    @property
    def ratio(self) -> float | None:
        """To the default's time; None where nothing was timed."""
        return measure.median_ratio(*self.pairs) if self.candidate_ms else None

    def interval(self, seed: int) -> tuple[float, float] | None:
        """Bootstrap interval (95 %) of that ratio."""
        return measure.ratio_interval(*self.pairs, seed) if self.candidate_ms else None

    def faster(self, seed: int) -> bool:
        """Whether it beats the default by more than noise."""
        interval = self.interval(seed)
        if self.ratio is None or interval is None or len(self.candidate_ms) < FEWEST_RUNS:
            return False
        return self.ratio <= 1 - LEAST_GAIN and interval[1] < 1


def fastest(trials: Sequence[Trial], seed: int) -> Trial | None:
    """The valid setting that gains most; None where the default stays."""
    return min((trial for trial in trials if trial.faster(seed)), key=lambda trial: trial.ratio or 1.0, default=None)


def try_settings(
    load: Load,
    offered: Mapping[str, Options],
    feed: Callable[[Session], Sequence[Outputs]],
    limits: timing.Limits,
    on_progress: Callable[[float], None],
    *,
    default_last: bool = False,
) -> tuple[dict[str, Any], list[Trial]]:
    """Time what is offered and valid in turn with the default settings; what the runtime was told by default, trials.

    `feed` gives a session the inputs that all run. `default_last` loads in the opposite order: what a session finds of
    memory depends on those before it. StageError where the default settings don't load.
    """
    trials = [Trial(name=name, options=dict(options)) for name, options in offered.items()]
    loaded: dict[str, Session] = {} if default_last else {DEFAULT: load({})}
    for trial in reversed(trials) if default_last else trials:
        try:
            loaded[trial.name] = load(trial.options)
        except StageError as error:
            trial.refused = error.message
    if default_last:
        loaded[DEFAULT] = load({})
    default = loaded[DEFAULT]
    feeds = feed(default)
    answers = [default.run(batch) for batch in feeds]
    for trial in trials:
        trial.refused = trial.refused or _unlike(loaded[trial.name], default, feeds, answers)
    fit = [trial for trial in trials if not trial.refused]
    if fit:
        _time(default, [loaded[trial.name] for trial in fit], fit, feeds, limits, on_progress)
    return dict(default.settings), trials


def _time(
    default: Session,
    sessions: Sequence[Session],
    trials: Sequence[Trial],
    feeds: Sequence[Outputs],
    limits: timing.Limits,
    on_progress: Callable[[float], None],
) -> None:
    runs = [timing.runner(session, feeds) for session in (default, *sessions)]
    # A collection in the middle of a run would be charged to it.
    gc.collect()
    gc.disable()
    timed = timing.time_in_turn(runs, limits, on_progress)
    gc.enable()
    for side, trial in enumerate(trials, start=1):
        trial.candidate_ms, trial.baseline_ms = timed.sides[side], timed.sides[0]
        trial.candidate_cpu_ms, trial.baseline_cpu_ms = timed.cpu_sides[side], timed.cpu_sides[0]


def _unlike(session: Session, default: Session, feeds: Sequence[Outputs], answers: Sequence[Outputs]) -> str:
    """Why a setting is not valid beside the default; empty where it is."""
    ours, theirs = places(session), places(default)
    # Fusions change how many nodes there are; in one and the same place that moves nothing.
    if {part["where"] for part in ours} != {part["where"] for part in theirs} or (len(theirs) > 1 and ours != theirs):
        return f"the graph is placed otherwise: {_shown(ours)}, by default {_shown(theirs)}"
    try:
        cosines = [_cosine(session.run(batch), expected) for batch, expected in zip(feeds, answers, strict=True)]
    except StageError as error:
        return error.message
    if (worst := min(cosines)) < LEAST_COSINE:
        return f"outputs differ: cosine {worst:.6f} with the default settings' ones, at least {LEAST_COSINE} is asked"
    return ""


def _shown(placed: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{part['nodes']} nodes on {part['where']}" for part in placed)


def _cosine(found: Outputs, expected: Outputs) -> float:
    """The least of any output; 0 where one is missing, of another shape or, on either side, not finite."""
    import numpy as np

    if found.keys() != expected.keys():
        return 0.0
    least = 1.0
    for name, array in found.items():
        left, right = (np.asarray(value, dtype=np.float64) for value in (array, expected[name]))
        if left.shape != right.shape or not (np.isfinite(left).all() and np.isfinite(right).all()):
            return 0.0
        lengths = float(np.linalg.norm(left) * np.linalg.norm(right))
        least = min(least, float((left * right).sum()) / lengths if lengths else float(np.array_equal(left, right)))
    return least
