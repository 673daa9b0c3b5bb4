"""The Docker engine: a locked image per toolchain, and per stage call a container that is allowed what it needs."""

from __future__ import annotations

import compileall
import functools
import tempfile
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from portwright.capacity import available_memory
from portwright.devices import Access
from portwright.engines.base import Event, EventSink, Job, Outcome
from portwright.engines.call import merge_hub_cache, read_outcome
from portwright.engines.docker_api import (
    UNIX,
    docker_answers,
    engine_errors,
    engine_host,
    labelled_images,
    unix_version,
)
from portwright.engines.docker_base import pull_base
from portwright.engines.docker_connection import Connection
from portwright.engines.docker_container import Limits, container_options, run_container
from portwright.engines.docker_device import check_device
from portwright.engines.docker_files import Desk, Exchange, bound, copied, shares_files
from portwright.engines.docker_image import build_toolchain, find_image, image_label, usual_images
from portwright.engines.kinds import EngineKind
from portwright.engines.running import Running
from portwright.errors import EngineError, StageFailedError
from portwright.locks import held
from portwright.packages import PackageSettings
from portwright.scheduler import Capacity
from portwright.toolchain import Toolchain

if TYPE_CHECKING:
    import docker

__all__ = ["DockerEngine", "docker_answers"]
WAITING = "another run builds an image: waiting for it"
NAMED_PIPE = "npipe://"


class DockerEngine:
    """Runs stages in containers of the engine that DOCKER_HOST or the current docker context names."""

    kind: EngineKind = "docker"

    def __init__(self, shared: Path, folder: Path, settings: Callable[[], PackageSettings]) -> None:
        self._shared = shared
        self._folder = folder
        self._settings = functools.cache(settings)
        self._host = engine_host()
        self._connected: Connection | None = None
        self._sees_files: bool | None = None
        self._looking = threading.RLock()
        self._running = Running()
        if self._host.startswith(UNIX):
            # Where all is there, this is all that is asked: the SDK takes longer to import than the rest of a command.
            unix_version(self._host)
        else:
            self._connection()

    def _connection(self) -> Connection:
        """The connection, made when something needs it first."""
        with self._looking:
            if self._connected is None:
                self._connected = Connection.open(self._host)
            return self._connected

    @property
    def _client(self) -> docker.DockerClient:
        return self._connection().client

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
        if self._has_image(toolchain):
            return False
        self._folder.mkdir(parents=True, exist_ok=True)
        with held(self._folder / "build.lock", lambda: on_event(Event(kind="log", text=WAITING))):
            if find_image(self._client, toolchain, stand_ins=False):
                return False
            if find_image(self._client, toolchain) and not pull_base(self._client, toolchain, on_event):
                return False
            build_toolchain(self._client, toolchain, self._settings(), self._folder, on_event)
        return True

    def _has_image(self, toolchain: Toolchain) -> bool:
        """Whether there is an image on the base that is asked for."""
        if self._connected is None and self._host.startswith(UNIX):
            return bool(usual_images(labelled_images(self._host, image_label(toolchain))))
        return find_image(self._client, toolchain, stand_ins=False) is not None

    def run(self, toolchain: Toolchain, job: Job, on_event: EventSink) -> Outcome:
        """Run one stage call in a container of its own, which is gone when this returns."""
        connection = self._connection()
        image = find_image(connection.client, toolchain)
        if image is None:
            raise EngineError(f"the image of toolchain {toolchain.name!r} is gone", hint="run the same command again")
        with (
            engine_errors(f"run stage {job.label}"),
            tempfile.TemporaryDirectory(prefix="call-", dir=job.output.parent) as name,
        ):
            desk = Desk.make(Path(name))
            with self._exchange(image, job, desk, on_event) as exchange:
                limits = Limits(connection.user, connection.memory, connection.gpus)
                options = container_options(job, exchange, limits, self._settings() if job.network else None)
                end = run_container(connection.client, image, options, job, on_event, self._running)
            if end.out_of_memory:
                raise self._out_of_memory(job)
            outcome = read_outcome(job, desk.call, end.exit_code)
            if job.network and job.hub_cache:
                merge_hub_cache(desk.fills, job.hub_cache, on_event)
            return outcome

    def admit(self, access: Access) -> None:
        """EngineError where containers of this engine can't have the device."""
        connection = self._connection()
        check_device(access, connection.user, connection.gpus)

    def capacity(self) -> Capacity:
        """The engine's machine; one that this process shares with it has what is free now."""
        local = self._host.startswith((UNIX, NAMED_PIPE))
        connection = self._connection()
        memory = min(connection.memory, available_memory()) if local else connection.memory
        return Capacity(cores=connection.cores, memory=memory)

    def stop(self) -> None:
        """Kill the containers of stages. A build of an image ends with its next line, or with the connection."""
        self._running.stop()

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connected is not None:
            self._connected.client.close()

    def _exchange(self, image: str, job: Job, desk: Desk, on_event: EventSink) -> AbstractContextManager[Exchange]:
        client, user = self._client, self._connection().user
        with self._looking:
            if self._sees_files is None:
                self._sees_files = shares_files(client, image, job.output.parent)
                # No container can keep bytecode beside the stage library, and without it every stage compiles it anew.
                compileall.compile_dir(self._shared, quiet=2)
                if not self._sees_files:
                    text = f"the engine at {self._host} doesn't see this machine's files: they are copied in and out"
                    on_event(Event(kind="log", text=text))
        if job.access is not None and not self._sees_files:
            raise EngineError(
                f"device {job.access.name!r} can't be used through the engine at {self._host}",
                why="it runs elsewhere: what was found is a device of this machine, which it doesn't see",
                hint="run the same command on the engine's machine, or use --engine=venv here",
            )
        certificate = self._settings().certificate if job.network else None
        if self._sees_files:
            return bound(job, desk, self._shared, certificate, user, on_event)
        return copied(client, image, job, desk, self._shared, certificate, user)

    def _out_of_memory(self, job: Job) -> StageFailedError:
        memory = self._connection().memory / 1e9
        return StageFailedError(
            f"stage {job.label} ran out of memory",
            why=f"its container may take {memory:.1f} GB, what the engine's machine has less a reserve",
            hint="fewer samples, a smaller model, or a machine with more memory; the same command goes on where it was",
            log=job.log,
        )
