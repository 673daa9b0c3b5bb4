"""A connection to an engine, with what is asked of the engine once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from portwright.engines.docker_api import connect, engine_errors
from portwright.engines.docker_device import gpu_request
from portwright.engines.docker_owner import container_user, reap

if TYPE_CHECKING:
    import docker
    from docker.types import DeviceRequest

RESERVE_BYTES = 512 << 20
"""Memory of the engine's machine that no stage may take."""


@dataclass(frozen=True, kw_only=True)
class Connection:
    """The SDK's client, and what the engine's machine has."""

    client: docker.DockerClient
    user: tuple[int, int]
    """uid and gid of stages."""
    gpus: DeviceRequest | None
    """How the engine is asked for NVIDIA GPUs; None where it hasn't any to give."""
    memory: int
    """Bytes that a stage may take."""
    cores: int

    @classmethod
    def open(cls, host: str) -> Connection:
        """Connect, and remove what killed runs left behind; EngineError where no engine answers."""
        client = connect(host)
        with engine_errors("say what it is"):
            info = client.info()
        rootless = any("rootless" in option for option in info.get("SecurityOptions") or [])
        reap(client)
        return cls(
            client=client,
            user=container_user(rootless=rootless),
            gpus=gpu_request(info),
            memory=max(int(info["MemTotal"]) - RESERVE_BYTES, RESERVE_BYTES),
            cores=int(info["NCPU"]),
        )
