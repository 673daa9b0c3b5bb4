"""Reaching a Docker engine, and its errors in words."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from portwright.errors import EngineError

if TYPE_CHECKING:
    import docker

DEFAULT_HOST = "unix:///var/run/docker.sock"
PROBE_S = 2
LONG_S = 3600
BLOCK = 1 << 20
START_HINT = "start the engine, name another with DOCKER_HOST, or use --engine=venv, which needs none"


def engine_host() -> str:
    """The engine's address: DOCKER_HOST, or the current docker context's, or the default socket."""
    if host := os.environ.get("DOCKER_HOST"):
        return host
    from docker.context import ContextAPI

    context = ContextAPI.get_current_context()
    return (context.Host if context else None) or DEFAULT_HOST


def docker_answers() -> tuple[bool, str]:
    """Whether an engine answers within two seconds, and what it is or why not."""
    host = engine_host()
    try:
        client = connect(host, timeout=PROBE_S)
    except EngineError as error:
        return False, error.why or error.message
    try:
        version = client.version()["Version"]
    finally:
        client.close()
    return True, f"Docker {version} at {host}"


def connect(host: str, timeout: int = LONG_S) -> docker.DockerClient:
    """A client of the engine at `host`; EngineError where none answers."""
    import docker
    import requests

    try:
        client = docker.DockerClient(base_url=host, version="auto", timeout=PROBE_S, use_ssh_client=True)
        client.ping()
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError, ValueError) as error:
        why = f"{host}: {_short(error)}"
        raise EngineError("no Docker engine answers", why=why, hint=START_HINT) from None
    client.api.timeout = timeout
    return client


@contextlib.contextmanager
def engine_errors(what: str) -> Iterator[None]:
    """Turn the SDK's and the connection's errors into an EngineError that says what was being done."""
    import docker
    import requests

    try:
        yield
    except docker.errors.APIError as error:
        raise EngineError(
            f"Docker refused to {what}", why=str(error.explanation or error), hint=_hint(error)
        ) from error
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        raise EngineError(
            f"lost the Docker engine while it was to {what}", why=_short(error), hint=START_HINT
        ) from error


def _hint(error: docker.errors.APIError) -> str:
    text = str(error.explanation or "")
    if "no space left" in text:
        return "free some space on the engine's disk (docker system df shows what it holds)"
    if "bind source path does not exist" in text:
        return "the engine doesn't see this machine's files: use one that runs here, or --engine=venv"
    return ""


def _short(error: BaseException) -> str:
    """The innermost cause, in one line."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return str(cause) or type(cause).__name__


def import_tar(client: docker.DockerClient, blocks: Iterator[bytes], tag: str) -> None:
    """Make an image of a root file system's tar. An iterator, not a file: the SDK asks for chunks, and gets them so."""
    repository, _, version = tag.partition(":")
    client.api.import_image_from_stream(blocks, repository=repository, tag=version)
