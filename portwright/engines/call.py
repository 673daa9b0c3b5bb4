"""What every engine does the same way: writing a call, reading its events and its outcome, keeping the hub's cache."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from portwright.checked import StrictModel
from portwright.engines.base import Event, EventSink, Job, Outcome
from portwright.errors import DataError, ModelError, PortwrightError, StageFailedError, StoreError
from portwright.packages import PackageSettings

CALL = "call.json"
RESULT = "result.json"
TIMED_OUT = 124
NO_SPACE = 28
KILLED = 137
HUB_VARIABLES = ("HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT")
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
THREAD_VARIABLES = (
    "STAGELIB_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "RAYON_NUM_THREADS",
)
"""Ours, PyTorch's and scikit-learn's, numpy's, PyTorch's again, the tokenizers'."""
LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""A stage allocates its weights several times over, and a page fault for every 4 KiB of them costs seconds. Other C
libraries don't read it."""
ERRORS: dict[str, type[PortwrightError]] = {"stage": StageFailedError, "model": ModelError, "data": DataError}
FREE_SPACE = "free some space, or set PORTWRIGHT_ARTIFACTS to a larger disk; the same command goes on where it was"
NO_SPACE_TEXT = re.compile(r"(?i)no space left on device|ENOSPC|errno 28")


@dataclass(frozen=True, kw_only=True)
class CallPaths:
    """Where a stage finds its directories, in its own file system."""

    inputs: Mapping[str, str]
    output: str
    scratch: str
    result: str
    cache: str | None = None
    fills: str | None = None
    parent_pid: int | None = None


class _Report(StrictModel):
    """`result.json` as the stage library writes it."""

    ok: bool
    seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    facts: Annotated[dict[str, Any], Field(default_factory=dict)]
    samples: Annotated[list[dict[str, Any]], Field(default_factory=list)]
    versions: Annotated[dict[str, str], Field(default_factory=dict)]
    passed: Annotated[dict[str, tuple[str, str]], Field(default_factory=dict)]
    kind: str = "stage"
    message: str = ""
    hint: str = ""


def write_call(job: Job, folder: Path, paths: CallPaths) -> Path:
    """Write what `python -m stagelib` reads; returns the file."""
    call = {
        "stage": job.stage,
        "params": dict(job.params),
        "network": job.network,
        "deadline_s": job.deadline_s,
        "also_versions": list(job.also_versions),
        **asdict(paths),
    }
    path = folder / CALL
    path.write_text(json.dumps(call))
    return path


def parse_event(line: str) -> Event | None:
    """One line of a stage's standard output; None for what is no event."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    text = str(value.get("text", ""))
    match value.get("event"):
        case "progress" if isinstance(value.get("done"), int | float):
            return Event(kind="progress", text=text, done=float(value["done"]))
        case "log":
            return Event(kind="log", text=text)
        case _:
            return None


def read_outcome(job: Job, folder: Path, exit_code: int) -> Outcome:
    """The stage's report from `folder`; raises what it says went wrong, or what its exit code means without one."""
    try:
        report = _Report.model_validate_json((folder / RESULT).read_bytes())
    except (FileNotFoundError, ValidationError):
        raise died(job, exit_code) from None
    if report.ok:
        return Outcome(
            facts=report.facts,
            samples=report.samples,
            versions=report.versions,
            seconds=report.seconds,
            cpu_seconds=report.cpu_seconds,
            peak_memory_bytes=report.peak_memory_bytes,
            passed=report.passed,
        )
    if NO_SPACE_TEXT.search(report.message):
        raise disk_full(job)
    error = ERRORS.get(report.kind, StageFailedError)
    raise error(f"stage {job.label}: {report.message}", hint=report.hint, log=job.log)


def disk_full(job: Job) -> StoreError:
    """A stage that had no room to write."""
    return StoreError(
        f"stage {job.label} could not write its output",
        why=f"no space is left on the disk of {job.output.parent.parent}",
        hint=FREE_SPACE,
        log=job.log,
    )


def died(job: Job, exit_code: int) -> PortwrightError:
    """A stage that ended without a report."""
    if exit_code == NO_SPACE or (exit_code > 0 and NO_SPACE_TEXT.search(tail(job.log))):
        return disk_full(job)
    if exit_code == TIMED_OUT:
        why = f"it was still running after {job.deadline_s:.0f} s"
    elif exit_code in {KILLED, -9}:
        why = "it was killed, most likely because memory ran out"
    elif exit_code < 0:
        why = f"it ended by signal {-exit_code}"
    else:
        why = f"it ended with exit code {exit_code} and no report: {tail(job.log, 3)}"
    hint = "the log holds what it printed; the same command runs just this stage again"
    return StageFailedError(f"stage {job.label} did not finish", why=why, hint=hint, log=job.log)


def tail(log: Path, lines: int = 40) -> str:
    """The last lines of a log, as one text."""
    try:
        return "\n       ".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def network_environment(settings: PackageSettings) -> dict[str, str]:
    """What a stage with network gets of the caller's environment: hub, proxies, certificates."""
    passed = {name: os.environ[name] for name in (*HUB_VARIABLES, *PROXY_VARIABLES) if name in os.environ}
    if settings.certificate is not None:
        passed |= dict.fromkeys(CERTIFICATE_VARIABLES, str(settings.certificate))
    return passed


def job_environment(job: Job) -> dict[str, str]:
    """What keeps the libraries of a stage, and `stagelib.api.cpu_count`, to the cores that its call was granted, and
    spares it page faults."""
    threads = {} if job.threads is None else dict.fromkeys(THREAD_VARIABLES, str(job.threads))
    return threads if job.alone else threads | LARGE_PAGES


def merge_hub_cache(fresh: Path, cache: Path, on_event: EventSink) -> None:
    """Move what a fetch brought into the caller's HF_HOME: links kept, nothing overwritten but branch references.

    The stage's output is whole without it: a cache that can't be written is said, and costs only another download.
    """
    try:
        for path in sorted(fresh.rglob("*")):
            _merge(path, cache / path.relative_to(fresh), path.relative_to(fresh).parts)
    except OSError as error:
        why = f"{error.filename or cache}: {error.strerror or error}"
        on_event(Event(kind="log", text=f"what was fetched is not kept in the hub cache {cache} ({why})"))


def _merge(path: Path, target: Path, parts: tuple[str, ...]) -> None:
    if path.is_symlink():
        # Another program may have put it there at this moment.
        with contextlib.suppress(FileExistsError):
            target.symlink_to(path.readlink())
    elif path.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    elif not target.exists() or parts[2:3] == ("refs",):  # hub/<repository>/refs/<branch>, or refs/pr/<number>
        # Beside the target first: a reader never sees half a file.
        beside = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}")
        try:
            shutil.copyfile(path, beside)
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)
