"""Building images with BuildKit through the engine's HTTP interface, which the SDK's own `build` doesn't drive."""

from __future__ import annotations

import base64
import json
import tarfile
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portwright.engines.base import Event, EventSink
from portwright.engines.docker_api import engine_errors
from portwright.engines.docker_tar import BLOCK
from portwright.errors import EngineError
from portwright.packages import install_hint

if TYPE_CHECKING:
    import docker

TRACE = "moby.buildkit.trace"
LAST_LINES = 12
EPOCH = 1_704_067_200


def build_context(files: Mapping[str, Path | bytes]) -> Iterator[bytes]:
    """A context: GNU tar with integer times, since BuildKit takes a leading PAX header for a Dockerfile.

    As it is read, and not compressed: a vendor's archive may be gigabytes, and is compressed already.
    """
    for name, content in sorted(files.items()):
        info = tarfile.TarInfo(name)
        info.size = len(content) if isinstance(content, bytes) else content.stat().st_size
        info.mtime, info.mode = EPOCH, 0o755
        yield info.tobuf(tarfile.GNU_FORMAT)
        if isinstance(content, bytes):
            yield content
        else:
            with content.open("rb") as file:
                while block := file.read(BLOCK):
                    yield block
        yield b"\0" * (-info.size % tarfile.BLOCKSIZE)
    yield b"\0" * tarfile.RECORDSIZE


def build_image(
    client: docker.DockerClient,
    context: Iterator[bytes],
    *,
    tag: str,
    labels: Mapping[str, str],
    arguments: Mapping[str, str],
    log: Path,
    on_event: EventSink,
) -> None:
    """Build an image from a context; EngineError with the failing step's last lines."""
    parameters = {
        "version": "2",
        "t": tag,
        "labels": json.dumps(dict(labels)),
        "buildargs": json.dumps(dict(arguments)),
        "rm": "1",
    }
    url = f"{client.api.base_url}/v{client.api.api_version}/build"
    lines: deque[str] = deque(maxlen=LAST_LINES)
    failure = ""
    with engine_errors(f"build {tag}"), log.open("w") as file:
        response = client.api.post(
            url, params=parameters, data=context, headers={"Content-Type": "application/x-tar"}, stream=True
        )
        if not response.ok:
            raise EngineError(f"Docker refused to build {tag}", why=response.text.strip())
        for record in _records(response.iter_content(chunk_size=None)):
            for line in _lines(record):
                file.write(line + "\n")
                lines.append(line)
                on_event(Event(kind="log", text=line))
            if "error" in record:
                failure = str(record["error"])
                file.write(failure + "\n")
    if failure:
        shown = "\n       ".join([*lines, failure])
        raise EngineError(f"can't build image {tag}", why=shown, hint=install_hint(shown), log=log)


def _records(chunks: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    """JSON values from a stream that may cut them anywhere."""
    decoder = json.JSONDecoder()
    pending = ""
    for chunk in chunks:
        pending += chunk.decode(errors="replace")
        while pending := pending.lstrip():
            try:
                value, end = decoder.raw_decode(pending)
            except ValueError:
                break
            pending = pending[end:]
            if isinstance(value, dict):
                yield value


def _lines(record: Mapping[str, Any]) -> Iterator[str]:
    """What a record says, line by line."""
    if record.get("id") == TRACE and isinstance(record.get("aux"), str):
        for text in trace_texts(base64.b64decode(record["aux"])):
            yield from (line for line in text.splitlines() if line.strip())
    elif isinstance(record.get("stream"), str):
        yield from (line for line in record["stream"].splitlines() if line.strip())


VERTEX, LOG = 1, 3
HOUSEKEEPING = ("[internal]", "copy /context")
VERTEX_NAME, VERTEX_STARTED, LOG_MESSAGE = 3, 5, 4


def trace_texts(message: bytes) -> Iterator[str]:
    """Names of started steps and lines of logs in a BuildKit StatusResponse (a protobuf of three fields we read)."""
    for number, payload in _fields(message):
        if number == VERTEX:
            parts = dict(_fields(payload))
            name = parts.get(VERTEX_NAME, b"").decode(errors="replace")
            if VERTEX_STARTED in parts and not name.startswith(HOUSEKEEPING):
                yield name
        elif number == LOG:
            parts = dict(_fields(payload))
            yield parts.get(LOG_MESSAGE, b"").decode(errors="replace")


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Length-delimited fields of a protobuf message, by number; numbers and fixed words are passed over."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == 2:  # noqa: PLR2004 - protobuf's length-delimited
            size, at = _varint(message, at)
            yield number, message[at : at + size]
            at += size
        elif wire == 0:
            _, at = _varint(message, at)
        else:
            at += {1: 8, 5: 4}.get(wire, len(message))


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            break
        shift += 7
    return value, at
