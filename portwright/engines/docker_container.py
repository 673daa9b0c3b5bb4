"""One container of one stage call: what it is allowed, what it says, and that nothing is left of it."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from portwright.engines.base import EventSink, Job
from portwright.engines.call import (
    CERTIFICATE_VARIABLES,
    TIMED_OUT,
    job_environment,
    network_environment,
    parse_event,
)
from portwright.engines.docker_device import device_environment, device_options, driver_mounts
from portwright.engines.docker_files import Exchange
from portwright.engines.docker_owner import labels
from portwright.engines.running import Running
from portwright.naming import slug
from portwright.packages import PackageSettings

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container
    from docker.types import DeviceRequest

PIDS = 1024
TMPFS = "rw,nosuid,nodev,noexec,size=256m,mode=1777"
SHARES_PER_CORE = 1024
MOST_SHARES = 1 << 18
"""The kernel's most: a container that asks for more, as 257 cores would, doesn't start."""
GRACE_S = 10.0
LOOPBACK = ("localhost", "127.0.0.1", "::1")
REACHED = ("HF_ENDPOINT", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")


@dataclass(frozen=True)
class Limits:
    """Whom a container runs as, how much memory it may take, in bytes, and which GPUs there are."""

    user: tuple[int, int]
    memory: int
    gpus: DeviceRequest | None = None
    """How the engine is asked for NVIDIA GPUs; None where it hasn't any to give."""


@dataclass(frozen=True)
class End:
    """How a container ended. `out_of_memory` is asked only of one that failed."""

    exit_code: int
    out_of_memory: bool


def container_options(job: Job, exchange: Exchange, limits: Limits, settings: PackageSettings | None) -> dict[str, Any]:
    """Everything is denied but what this stage needs. `settings` are those of a stage with network."""
    return {
        "command": ["python", "-m", "stagelib", f"{exchange.call}/call.json"],
        "name": f"portwright-{slug(job.label)}-{secrets.token_hex(4)}",
        "labels": {**labels(job.deadline_s), "portwright.stage": job.stage},
        "user": f"{limits.user[0]}:{limits.user[1]}",
        "working_dir": exchange.paths.scratch,
        "read_only": True,
        "tmpfs": {"/tmp": TMPFS},  # noqa: S108 - the container's own
        "network_mode": _network(job),
        # An engine that maps users would give the output to a user who is not the caller.
        "userns_mode": "host",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "pids_limit": PIDS,
        # The limit is the machine's: an expectation that was too low must not end what would finish alone. What the
        # call was granted is its share where several want more than there is.
        **_granted(job, limits),
        "mem_limit": limits.memory,
        "memswap_limit": limits.memory,
        "init": True,
        "mounts": [*exchange.mounts, *driver_mounts(job.access)],
        "environment": _environment(job, exchange, settings),
        **device_options(job.access, limits.gpus),
    }


def run_container(
    client: docker.DockerClient,
    image: str,
    options: Mapping[str, Any],
    job: Job,
    on_event: EventSink,
    running: Running,
) -> End:
    """Run a container to its end or its deadline; it is gone when this returns or raises."""
    container = client.containers.create(image, **options)
    try:
        return _watched(container, job, on_event, running)
    finally:
        # Removal kills at once: a stop would wait for a stage that has nothing to save.
        container.remove(force=True, v=True)


def _watched(container: Container, job: Job, on_event: EventSink, running: Running) -> End:
    """Start a container and follow it to its end."""
    with running.holding(lambda: _kill(container)):
        # Attached before the start, no line is lost.
        stream = container.attach(stream=True, demux=True, stdout=True, stderr=True, logs=False)
        container.start()
        running.check()  # what is to end may have been told so just before it could be killed
        with _killed_after(container, job.deadline_s + GRACE_S) as timed_out:
            _follow(stream, job.log, on_event)
            exit_code = int(container.wait()["StatusCode"])
        return End(TIMED_OUT if timed_out.is_set() else exit_code, exit_code != 0 and _ran_out(container))


def _ran_out(container: Container) -> bool:
    """Whether a container that failed had no memory left; one more question to the engine, so only then."""
    container.reload()
    return bool(container.attrs["State"]["OOMKilled"])


@contextlib.contextmanager
def _killed_after(container: Container, seconds: float) -> Iterator[threading.Event]:
    """Kill a container whose stage missed its own deadline, because its interpreter no longer answers."""
    timed_out = threading.Event()

    def kill() -> None:
        timed_out.set()
        _kill(container)

    killer = threading.Timer(seconds, kill)
    killer.daemon = True
    killer.start()
    try:
        yield timed_out
    finally:
        killer.cancel()


def _kill(container: Container) -> None:
    import docker
    import requests

    # It ended at the same moment, hasn't started, or its engine has gone.
    with contextlib.suppress(docker.errors.APIError, requests.exceptions.RequestException):
        container.kill()


def _granted(job: Job, limits: Limits) -> dict[str, int]:
    """A container's share of memory and processors where several want them."""
    shares = {"cpu_shares": min(SHARES_PER_CORE * job.threads, MOST_SHARES)} if job.threads else {}
    return shares | ({"mem_reservation": min(job.memory, limits.memory)} if job.memory else {})


def _environment(job: Job, exchange: Exchange, settings: PackageSettings | None) -> dict[str, str]:
    scratch = exchange.paths.scratch
    environment = {"PYTHONPATH": exchange.stage_library, "HOME": scratch, "TMPDIR": scratch, "LANG": "C.UTF-8"}
    environment |= job_environment(job) | device_environment(job.access)
    if not job.network or settings is None:
        return {**environment, "HF_HUB_OFFLINE": "1"}
    passed = network_environment(settings)
    if exchange.certificate:
        passed |= dict.fromkeys(CERTIFICATE_VARIABLES, exchange.certificate)
    return {**environment, **passed}


def _network(job: Job) -> str:
    if not job.network:
        return "none"
    # A hub or proxy on this machine's own loopback is out of a bridge's reach.
    places = [os.environ[name] for name in REACHED if os.environ.get(name)]
    return "host" if any(urlsplit(place).hostname in LOOPBACK for place in places) else "bridge"


def _follow(stream: Iterator[tuple[bytes | None, bytes | None]], log: Path, on_event: EventSink) -> None:
    """Standard output line by line as events, standard error into the log, until the container ends."""
    pending = b""
    with log.open("wb") as file:
        for out, err in stream:
            if err:
                file.write(err)
                file.flush()
            *lines, pending = (pending + (out or b"")).split(b"\n")
            for line in lines:
                if event := parse_event(line.decode(errors="replace")):
                    on_event(event)
