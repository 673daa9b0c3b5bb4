"""The Docker engine: a locked image per toolchain, and per stage call a container that is allowed what it needs."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from portwright.engines.base import EngineKind, EventSink, Job, Outcome
from portwright.engines.call import (
    CERTIFICATE_VARIABLES,
    CallPaths,
    merge_hub_cache,
    network_environment,
    parse_event,
    read_outcome,
    write_call,
)
from portwright.engines.docker_api import connect, docker_answers, engine_errors, engine_host
from portwright.engines.docker_image import build_toolchain, find_image
from portwright.engines.docker_owner import OWNER_LABEL, container_user, hand_over, readable, reap, this_owner
from portwright.errors import EngineError, StageFailedError
from portwright.naming import slug
from portwright.packages import PackageSettings
from portwright.toolchain import Toolchain

if TYPE_CHECKING:
    from docker.models.containers import Container

__all__ = ["DockerEngine", "docker_answers"]
PIDS = 1024
TMPFS = "rw,nosuid,nodev,noexec,size=256m,mode=1777"
RESERVE_BYTES = 512 << 20
"""Memory of the engine's machine that no stage may take."""
GRACE_S = 10.0
CERTIFICATE = "/run/certificates.crt"
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class DockerEngine:
    """Runs stages in containers of the engine that DOCKER_HOST or the current docker context names."""

    kind: EngineKind = "docker"

    def __init__(self, shared: Path, folder: Path, settings: PackageSettings) -> None:
        self._shared = shared
        self._logs = folder / "logs"
        self._settings = settings
        self._client = connect(engine_host())
        with engine_errors("say what it is"):
            info = self._client.info()
        rootless = any("rootless" in option for option in info.get("SecurityOptions") or [])
        self._user = container_user(rootless=rootless)
        self._memory = max(int(info["MemTotal"]) - RESERVE_BYTES, RESERVE_BYTES)
        reap(self._client)

    def prepare(self, toolchain: Toolchain, on_event: EventSink) -> bool:
        """Build the image of a toolchain unless the engine has it; True if it was built."""
        if find_image(self._client, toolchain):
            return False
        build_toolchain(self._client, toolchain, self._settings, self._logs, on_event)
        return True

    def run(self, toolchain: Toolchain, job: Job, on_event: EventSink) -> Outcome:
        """Run one stage call in a container of its own, which is gone when this returns."""
        image = find_image(self._client, toolchain)
        if image is None:
            raise EngineError(f"the image of toolchain {toolchain.name!r} is gone", hint="run the same command again")
        with tempfile.TemporaryDirectory(prefix="call-", dir=job.output.parent) as name:
            folder = Path(name)
            folder.chmod(0o755)
            call, scratch, fills = folder / "call", folder / "scratch", folder / "hub"
            for path in (call, scratch, fills):
                path.mkdir()
            write_call(job, call, self._paths(job))
            mine = (os.getuid(), os.getgid()) if hasattr(os, "getuid") else (0, 0)
            given = (job.output, call, scratch, fills)
            for path in given:
                hand_over(path, self._user)
            try:
                exit_code, out_of_memory = self._execute(image, job, folder, on_event)
            finally:
                for path in given:
                    hand_over(path, mine)
            if out_of_memory:
                raise self._out_of_memory(job)
            outcome = read_outcome(job, call, exit_code)
            if job.network and job.hub_cache:
                merge_hub_cache(fills, job.hub_cache)
            return outcome

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _paths(self, job: Job) -> CallPaths:
        return CallPaths(
            # A file keeps its name: messages about it are the user's to read.
            inputs={
                role: f"/in/{role}/{path.name}" if path.is_file() else f"/in/{role}" for role, path in job.inputs.items()
            },
            output="/out",
            scratch="/scratch",
            result="/call/result.json",
            cache="/cache" if _offered(job) else None,
            fills="/hub" if job.network else None,
        )

    def _execute(self, image: str, job: Job, folder: Path, on_event: EventSink) -> tuple[int, bool]:
        """The container's exit code, and whether memory ran out."""
        with engine_errors(f"run stage {job.label}"), self._container(image, job, folder) as container:
            stream = container.attach(stream=True, demux=True, stdout=True, stderr=True, logs=False)
            container.start()
            # The stage ends itself at its deadline; this is for one whose process no longer answers.
            killer = threading.Timer(job.deadline_s + GRACE_S, container.kill)
            killer.daemon = True
            killer.start()
            try:
                _follow(stream, job.log, on_event)
                exit_code = int(container.wait()["StatusCode"])
            finally:
                killer.cancel()
                with contextlib.suppress(OSError):  # the container's end may have closed it already
                    stream.close()
            container.reload()
            return exit_code, bool(container.attrs["State"]["OOMKilled"])

    @contextlib.contextmanager
    def _container(self, image: str, job: Job, folder: Path) -> Iterator[Container]:
        container = self._client.containers.create(
            image,
            ["python", "-m", "stagelib", "/call/call.json"],
            name=f"portwright-{slug(job.label)}-{secrets.token_hex(4)}",
            labels={OWNER_LABEL: this_owner(), "portwright.stage": job.stage},
            user=f"{self._user[0]}:{self._user[1]}",
            working_dir="/scratch",
            read_only=True,
            tmpfs={"/tmp": TMPFS},  # noqa: S108 - the container's own
            network_mode=self._network(job),
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            pids_limit=PIDS,
            mem_limit=self._memory,
            memswap_limit=self._memory,
            init=True,
            mounts=self._mounts(job, folder),
            environment=self._environment(job),
        )
        try:
            yield container
        finally:
            # Removal kills at once: a stop would wait for a stage that has nothing to save.
            container.remove(force=True)

    def _mounts(self, job: Job, folder: Path) -> list[Any]:
        from docker.types import Mount

        def mount(target: str, source: Path, *, read_only: bool) -> Mount:
            return Mount(target=target, source=str(source.resolve()), type="bind", read_only=read_only)

        paths = self._paths(job)
        inputs = {paths.inputs[role]: path for role, path in job.inputs.items()}
        inputs["/stagelib"] = self._shared
        if _offered(job) and job.hub_cache:
            inputs["/cache"] = job.hub_cache
        if job.network and self._settings.certificate:
            inputs[CERTIFICATE] = self._settings.certificate
        spare = folder / "readable"
        spare.mkdir()
        spare.chmod(0o755)
        writable = {
            "/out": job.output,
            "/call": folder / "call",
            "/scratch": folder / "scratch",
            "/hub": folder / "hub",
        }
        return [
            *(
                mount(target, readable(path, self._user, spare / slug(target)), read_only=True)
                for target, path in inputs.items()
            ),
            *(mount(target, path, read_only=False) for target, path in writable.items()),
        ]

    def _environment(self, job: Job) -> dict[str, str]:
        environment = {"PYTHONPATH": "/stagelib", "HOME": "/scratch", "TMPDIR": "/scratch", "LANG": "C.UTF-8"}
        if not job.network:
            return {**environment, "HF_HUB_OFFLINE": "1"}
        passed = network_environment(self._settings)
        if self._settings.certificate:
            passed |= dict.fromkeys(CERTIFICATE_VARIABLES, CERTIFICATE)
        return {**environment, **passed}

    def _network(self, job: Job) -> str:
        if not job.network:
            return "none"
        # A hub or proxy on this machine's own loopback is out of a bridge's reach.
        places = [os.environ.get(name, "") for name in ("HF_ENDPOINT", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY")]
        return "host" if any(urlsplit(place).hostname in LOOPBACK for place in places if place) else "bridge"

    def _out_of_memory(self, job: Job) -> StageFailedError:
        return StageFailedError(
            f"stage {job.label} ran out of memory",
            why=f"its container may take {self._memory / 1e9:.1f} GB, what the engine's machine has less a reserve",
            hint="fewer samples, a smaller model, or a machine with more memory; the same command goes on where it was",
            log=job.log,
        )


def _offered(job: Job) -> bool:
    return job.network and job.hub_cache is not None and job.hub_cache.is_dir()


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
