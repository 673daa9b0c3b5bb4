"""One look at the deployable on its device: every check, and the runtime's session if there is one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stagelib.api import StageError
from stagelib.runner.checks import Check, check_files, check_packages, check_placement, check_platform
from stagelib.runner.compatibility import check_variants, deployable
from stagelib.runner.contents import CPU, Contents, Execution
from stagelib.runner.golden import check_golden


def checks(
    root: Path, contents: Contents, execution: Execution, variant: str | None, scratch: Path, limit: float | None
) -> Iterator[Check]:
    """All checks, in order. What is damaged is not loaded, and what can't be loaded is not asked."""
    from stagelib.runtimes.base import find_runtime

    files = check_files(root, contents)
    yield files
    if not files.passed:
        return
    yield check_platform(contents)
    yield check_packages(root, contents)
    step = "load"
    try:
        runtime = find_runtime(execution.runtime)
        folder = deployable(root, variant, scratch)
        session = runtime.load(folder, device=execution.device, threads=None)
        executed_on = runtime.executed_on(execution.device)
        yield Check(name="load", passed=True, text=f"{execution.title}, by {execution.runtime} ({executed_on})")
        yield from check_variants(folder, session)
        step = "placement"
        yield check_placement(contents, session, executed_on)
        step = "golden"
        yield check_golden(root, contents, session, executed_on, limit)
    except StageError as error:
        hints = [error.hint] if error.hint else []
        if execution.name != CPU and any(item.name == CPU for item in contents.executions):
            hints.append(f"--device={CPU} stands in for the device, labelled so")
        yield Check(name=step, passed=False, text=error.message + (f" (try: {'; '.join(hints)})" if hints else ""))
    except ImportError as error:
        yield Check(name=step, passed=False, text=f"a package is missing: {error}")
