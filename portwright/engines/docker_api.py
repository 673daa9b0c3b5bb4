"""Reaching a Docker engine, and its errors in words. The SDK is slow to import: only where an engine serves."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from portwright.errors import EngineError

if TYPE_CHECKING:
    import docker

DEFAULT_HOST = "unix:///var/run/docker.sock"
UNIX = "unix://"
PROBE_S = 2
LONG_S = 3600
START_HINT = "start the engine, name another with DOCKER_HOST, or use --engine=venv, which needs none"


def engine_host() -> str:
    """The engine's address, found as the docker client does: DOCKER_HOST, the current context, the default socket."""
    if host := os.environ.get("DOCKER_HOST"):
        return host
    try:
        folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    except RuntimeError:  # a user without a home has no configuration
        return DEFAULT_HOST
    name = os.environ.get("DOCKER_CONTEXT") or _read_object(folder / "config.json").get("currentContext")
    if not isinstance(name, str) or name == "default":
        return DEFAULT_HOST
    meta = _read_object(folder / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json")
    try:
        return str(meta["Endpoints"]["docker"]["Host"])
    except (KeyError, TypeError):
        return DEFAULT_HOST


def docker_answers() -> tuple[bool, str]:
    """Whether an engine answers within two seconds, and what it is or why not."""
    host = engine_host()
    try:
        version = unix_version(host) if host.startswith(UNIX) else _sdk_version(host)
    except EngineError as error:
        return False, error.why or error.message
    return True, f"Docker {version} at {host}"


def connect(host: str, timeout: int = LONG_S) -> docker.DockerClient:
    """A client of the engine at `host`; EngineError where none answers."""
    import docker
    import requests
    from docker.utils import kwargs_from_env

    # The context's own certificates would be in its folder; DOCKER_CERT_PATH names those of DOCKER_HOST.
    try:
        tls = kwargs_from_env().get("tls") or False
        client = docker.DockerClient(base_url=host, version="auto", timeout=PROBE_S, use_ssh_client=True, tls=tls)
        client.ping()
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError, ValueError) as error:
        raise _down(host, error) from None
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


def import_tar(client: docker.DockerClient, blocks: Iterator[bytes], tag: str) -> None:
    """Make an image of a root file system's tar. An iterator, not a file: the SDK asks for chunks, and gets them so."""
    repository, _, version = tag.partition(":")
    client.api.import_image_from_stream(blocks, repository=repository, tag=version)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        if not hasattr(socket, "AF_UNIX"):
            raise OSError("this system has no Unix sockets; DOCKER_HOST names its engine")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def labelled_images(host: str, label: str) -> list[dict[str, Any]]:
    """Images with a label, as the engine lists them, from one on a Unix socket and without the SDK.

    As patiently as the SDK is asked: an engine that builds, or has hundreds of images, takes its time.
    """
    what = "/images/json?filters=" + quote(json.dumps({"label": [label]}))
    found = _unix_get(host.removeprefix(UNIX), what, LONG_S)
    return [image for image in found if isinstance(image, dict)] if isinstance(found, list) else []


def unix_version(host: str) -> str:
    """The version of an engine on a Unix socket, without the SDK; EngineError where none answers."""
    try:
        return str(_unix_get(host.removeprefix(UNIX), "/version", PROBE_S)["Version"])
    except (KeyError, TypeError) as error:
        raise _down(host, error) from None


def _unix_get(path: str, what: str, timeout: float) -> Any:
    """What an engine says, read as JSON; EngineError where it says none."""
    with contextlib.closing(_UnixConnection(path, timeout)) as connection:
        try:
            connection.request("GET", what)
            return json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _down(UNIX + path, error) from None


def _sdk_version(host: str) -> str:
    client = connect(host, timeout=PROBE_S)
    try:
        with engine_errors("say its version"):
            return str(client.version()["Version"])
    finally:
        client.close()


def _read_object(path: Path) -> dict[str, Any]:
    """A JSON object of the docker client's configuration; empty where there is none that can be read."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _down(host: str, error: BaseException) -> EngineError:
    hint = START_HINT
    if isinstance(_innermost(error), PermissionError):
        hint = "join the group that owns the socket (docker, say) and log in again, or use --engine=venv"
    return EngineError("no Docker engine answers", why=f"{host}: {_short(error)}", hint=hint)


def _hint(error: docker.errors.APIError) -> str:
    text = str(error.explanation or "")
    if "no space left" in text:
        return "free some space on the engine's disk (docker system df shows what it holds)"
    return ""


def _short(error: BaseException) -> str:
    """The innermost cause, in one line."""
    cause = _innermost(error)
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__


def _innermost(error: BaseException) -> BaseException:
    cause = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return cause
