"""One recipe of a run: the work it makes for the executor, whatever comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from portwright.board import Board
from portwright.calls import RecipePlan, StageCall
from portwright.errors import DataError, ModelError, PortwrightError, StageFailedError
from portwright.executor import End, Work
from portwright.outcomes import Outcomes
from portwright.project import Project
from portwright.reports import Report, report_made, write_report
from portwright.request import Wanted
from portwright.summary import build_result, wants_diagnosis


@dataclass(frozen=True, kw_only=True)
class RecipeWork:
    """A recipe's calls, then the search for its worst layers where it failed a gate, then its report."""

    project: Project
    board: Board
    wanted: Wanted
    plan: RecipePlan
    again: bool
    make_only: bool
    """Whether the recipe ends with what ships."""
    keep: Callable[[Report], None]
    """Given the report, once."""

    def work(self) -> Work:
        """What the executor is to run."""
        return self._work(self.plan.make_calls if self.make_only else self.plan.calls, self._ended)

    def _work(self, calls: Sequence[StageCall], ended: Callable[[End], Work | None]) -> Work:
        wanted = self.wanted
        return Work(label=wanted.target.name, calls=calls, access=wanted.access, again=self.again, ended=ended)

    def _ended(self, end: End) -> Work | None:
        if isinstance(end, PortwrightError):
            self._stopped(end)
            return None
        if self.make_only:
            self.keep(report_made(self.wanted, self.plan, end))
            return None
        outcomes = Outcomes(self.plan, end)
        if self.plan.diagnose and wants_diagnosis(build_result(outcomes)):
            return self._work([self.plan.diagnose], partial(self._diagnosed, outcomes))
        self._finished(outcomes)
        return None

    def _diagnosed(self, outcomes: Outcomes, end: End) -> None:
        """Which layers lose most; where that can't be told, that is no reason to lose the result."""
        if isinstance(end, StageFailedError):
            self.board.line(f"{self.wanted.target.name}: no layers named: {end.message}")
        elif isinstance(end, PortwrightError):
            self._stopped(end)
            return
        else:
            [outcomes.diagnosis] = end
        self._finished(outcomes)

    def _finished(self, outcomes: Outcomes) -> None:
        try:
            report = write_report(self.project, self.wanted, outcomes)
        except PortwrightError as error:
            self._stopped(error)
        else:
            self.keep(report)

    def _stopped(self, error: PortwrightError) -> None:
        name_the_blamed(error, self.wanted)
        # The other recipes still run; this one's error stands in its report, and decides the exit code.
        self.board.line(f"{self.wanted.target.name}: stopped")
        self.keep(Report(wanted=self.wanted, error=error))


def name_the_blamed(error: PortwrightError, wanted: Wanted) -> None:
    """A stage knows a model or data by its content; the user knows it by its name."""
    if isinstance(error, ModelError) and wanted.model.local is not None:
        name, hint = f"model {wanted.model.text}", "give another model, or save this one again with save_pretrained"
    elif isinstance(error, DataError) and wanted.data is not None:
        name, hint = f"data {wanted.data.path}", "correct the file, or give another with --data"
    else:
        return
    if name.partition(" ")[2] not in error.message:
        error.message = f"{error.message} ({name})"
    error.hint = error.hint or hint
