"""The Docker engine: a locked image per toolchain, and per stage call a container that is allowed what it needs."""

from __future__ import annotations

import tempfile
import threading
from contextlib import AbstractContextManager
from pathlib import Path

from portwright.capacity import available_memory
from portwright.devices import Access
from portwright.engines.base import Event, EventSink, Job, Outcome
from portwright.engines.call import merge_hub_cache, read_outcome
from portwright.engines.docker_api import UNIX, connect, docker_answers, engine_errors, engine_host
from portwright.engines.docker_base import pull_base
from portwright.engines.docker_container import Limits, container_options, run_container
from portwright.engines.docker_device import check_device, gpu_request
from portwright.engines.docker_files import Desk, Exchange, bound, copied, shares_files
from portwright.engines.docker_image import build_toolchain, find_image
from portwright.engines.docker_owner import container_user, reap
from portwright.engines.kinds import EngineKind
from portwright.engines.running import Running
from portwright.errors import EngineError, StageFailedError
from portwright.locks import held
from portwright.packages import PackageSettings
from portwright.scheduler import Capacity
from portwright.toolchain import Toolchain

__all__ = ["DockerEngine", "docker_answers"]
WAITING = "another run builds an image: waiting for it"
NAMED_PIPE = "npipe://"
RESERVE_BYTES = 512 << 20
"""Memory of the engine's machine that no stage may take."""


class DockerEngine:
    """Runs stages in containers of the engine that DOCKER_HOST or the current docker context names."""

    kind: EngineKind = "docker"

    def __init__(self, shared: Path, folder: Path, settings: PackageSettings) -> None:
        self._shared = shared
        self._folder = folder
        self._settings = settings
        self._host = engine_host()
        self._client = connect(self._host)
        with engine_errors("say what it is"):
            info = self._client.info()
        rootless = any("rootless" in option for option in info.get("SecurityOptions") or [])
        self._user = container_user(rootless=rootless)
        self._gpus = gpu_request(info)
        self._memory = max(int(info["MemTotal"]) - RESERVE_BYTES, RESERVE_BYTES)
        self._cores = int(info["NCPU"])
        self._sees_files: bool | None = None
        self._looking = threading.Lock()
        self._running = Running()
        reap(self._client)

    def prepare(self, toolchain: Toolchain, on_event: EventSink) -> bool:
        """Build the image of a toolchain unless the engine has it; True if it was built.

        One on a stand-in for a pinned base serves only while the registry doesn't answer.
        """
        if not toolchain.has_image:
            raise EngineError(
                f"toolchain {toolchain.name!r} has no image",
                why=f"{toolchain.folder} holds no Dockerfile: its packages are for another system than a container's",
                hint="use --engine=venv on that system",
            )
        if find_image(self._client, toolchain, stand_ins=False):
            return False
        self._folder.mkdir(parents=True, exist_ok=True)
        with held(self._folder / "build.lock", lambda: on_event(Event(kind="log", text=WAITING))):
            if find_image(self._client, toolchain, stand_ins=False):
                return False
            if find_image(self._client, toolchain) and not pull_base(self._client, toolchain, on_event):
                return False
            build_toolchain(self._client, toolchain, self._settings, self._folder / "logs", on_event)
        return True

    def run(self, toolchain: Toolchain, job: Job, on_event: EventSink) -> Outcome:
        """Run one stage call in a container of its own, which is gone when this returns."""
        image = find_image(self._client, toolchain)
        if image is None:
            raise EngineError(f"the image of toolchain {toolchain.name!r} is gone", hint="run the same command again")
        with (
            engine_errors(f"run stage {job.label}"),
            tempfile.TemporaryDirectory(prefix="call-", dir=job.output.parent) as name,
        ):
            desk = Desk.make(Path(name))
            with self._exchange(image, job, desk, on_event) as exchange:
                limits = Limits(self._user, self._memory, self._gpus)
                options = container_options(job, exchange, limits, self._settings)
                end = run_container(self._client, image, options, job, on_event, self._running)
            if end.out_of_memory:
                raise self._out_of_memory(job)
            outcome = read_outcome(job, desk.call, end.exit_code)
            if job.network and job.hub_cache:
                merge_hub_cache(desk.fills, job.hub_cache, on_event)
            return outcome

    def admit(self, access: Access) -> None:
        """EngineError where containers of this engine can't have the device."""
        check_device(access, self._user, self._gpus)

    def capacity(self) -> Capacity:
        """The engine's machine; one that this process shares with it has what is free now."""
        local = self._host.startswith((UNIX, NAMED_PIPE))
        memory = min(self._memory, available_memory()) if local else self._memory
        return Capacity(cores=self._cores, memory=memory)

    def stop(self) -> None:
        """Kill the containers of stages. A build of an image ends with its next line, or with the connection."""
        self._running.stop()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _exchange(self, image: str, job: Job, desk: Desk, on_event: EventSink) -> AbstractContextManager[Exchange]:
        with self._looking:
            if self._sees_files is None:
                self._sees_files = shares_files(self._client, image, job.output.parent)
                if not self._sees_files:
                    text = f"the engine at {self._host} doesn't see this machine's files: they are copied in and out"
                    on_event(Event(kind="log", text=text))
        if job.access is not None and not self._sees_files:
            raise EngineError(
                f"device {job.access.name!r} can't be used through the engine at {self._host}",
                why="it runs elsewhere: what was found is a device of this machine, which it doesn't see",
                hint="run the same command on the engine's machine, or use --engine=venv here",
            )
        certificate = self._settings.certificate
        if self._sees_files:
            return bound(job, desk, self._shared, certificate, self._user, on_event)
        return copied(self._client, image, job, desk, self._shared, certificate, self._user)

    def _out_of_memory(self, job: Job) -> StageFailedError:
        return StageFailedError(
            f"stage {job.label} ran out of memory",
            why=f"its container may take {self._memory / 1e9:.1f} GB, what the engine's machine has less a reserve",
            hint="fewer samples, a smaller model, or a machine with more memory; the same command goes on where it was",
            log=job.log,
        )
