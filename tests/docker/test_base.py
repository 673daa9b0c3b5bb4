"""The base image from a registry on loopback: by digest, or the bootstrap where no registry answers."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import docker
import pytest
import requests

from portwright.engines.base import Event
from portwright.engines.docker import DockerEngine
from portwright.engines.docker_base import REPOSITORY, ensure_base
from portwright.engines.docker_image import find_image
from portwright.errors import EngineError, UsageError
from portwright.project import this_project
from portwright.toolchain import BASE_VARIABLE, Toolchain

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("docker_engine")]
ON_SHARED_BASE = Toolchain("ort", this_project().docker / "ort")
MISSING = "docker-registry is missing: apt-get install docker-registry"
CONFIG = """\
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@pytest.fixture
def client() -> Iterator[docker.DockerClient]:
    opened = docker.from_env()
    yield opened
    opened.close()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """A registry of our own; its address."""
    program = shutil.which("docker-registry")
    if program is None:
        assert not os.environ.get("PORTWRIGHT_REQUIRE_DOCKER"), MISSING
        pytest.skip(MISSING)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = tmp_path / "registry.yml"
    config.write_text(CONFIG.format(folder=tmp_path / "registry", port=port))
    with subprocess.Popen(
        [program, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/v2/")
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def wait_for(address: str) -> None:
    for _ in range(100):
        try:
            with urllib.request.urlopen(address, timeout=1):  # noqa: S310 - our own loopback
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    pytest.fail(f"{address} never answered")


def ensure(client: docker.DockerClient, folder: Path) -> tuple[str, list[str]]:
    events: list[Event] = []
    base = ensure_base(client, ON_SHARED_BASE, folder / "base.log", events.append)
    assert base.stands_in == any("stands in" in event.text for event in events)
    return base.tag, [event.text for event in events]


def push(client: docker.DockerClient, tag: str, registry: str) -> str:
    """Push an image; its reference by digest, the engine's own copy of that name forgotten."""
    image = client.images.get(tag)
    name = f"{registry}/base"
    image.tag(name, "latest")
    for line in client.images.push(name, tag="latest", stream=True, decode=True):
        assert "error" not in line, line
    [reference] = [found for found in client.images.get(f"{name}:latest").attrs["RepoDigests"] if registry in found]
    client.images.remove(f"{name}:latest")
    return str(reference)


def test_a_base_is_taken_from_a_registry_by_digest(
    client: docker.DockerClient, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(BASE_VARIABLE, raising=False)
    bootstrapped, _ = ensure(client, tmp_path)
    reference = push(client, bootstrapped, registry)
    monkeypatch.setenv(BASE_VARIABLE, reference)
    tag, said = ensure(client, tmp_path)
    assert tag == f"{REPOSITORY}:{reference.rpartition(':')[2][:12]}"
    assert said in ([], [f"pulling {reference}"])
    assert client.images.get(tag).attrs["RootFS"] == client.images.get(bootstrapped).attrs["RootFS"]
    assert ensure(client, tmp_path) == (tag, [])
    client.images.remove(tag)
    client.images.remove(reference)


def test_a_registry_that_has_no_such_image_is_an_error(
    client: docker.DockerClient, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = f"{registry}/base@sha256:{'0' * 64}"
    monkeypatch.setenv(BASE_VARIABLE, reference)
    with pytest.raises(EngineError) as caught:
        ensure(client, tmp_path)
    assert reference in str(caught.value)


def test_a_registry_that_does_not_answer_is_said_and_the_bootstrap_serves(
    client: docker.DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BASE_VARIABLE, f"127.0.0.1:9/base@sha256:{'0' * 64}")
    tag, said = ensure(client, tmp_path)
    assert client.images.get(tag)
    assert any("a bootstrapped one stands in" in text for text in said)


def test_an_image_on_a_stand_in_serves_until_the_registry_answers(
    engine: DockerEngine,
    client: docker.DockerClient,
    registry: str,
    ort: Toolchain,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(BASE_VARIABLE, raising=False)
    bootstrapped, _ = ensure(client, tmp_path)
    reference = push(client, bootstrapped, registry)
    monkeypatch.setenv(BASE_VARIABLE, reference)
    with contextlib.suppress(docker.errors.ImageNotFound):
        client.images.remove(reference)
    answers = client.images.pull
    said: list[str] = []

    def silent(name: str) -> NoReturn:
        response = requests.Response()
        response.status_code = 500
        raise docker.errors.APIError(f"connection refused: {name}", response, "connection refused")

    def prepare() -> bool:
        said.clear()
        return engine.prepare(ort, lambda event: said.append(event.text))

    monkeypatch.setattr(type(client.images), "pull", lambda _, name: silent(name))
    assert prepare() is True
    stand_in = find_image(client, ort)
    assert stand_in is not None
    assert find_image(client, ort, stand_ins=False) is None
    assert prepare() is False
    assert any("stands in for it, and the next run asks again" in text for text in said)
    monkeypatch.setattr(type(client.images), "pull", lambda _, name: answers(name))
    assert prepare() is True
    pinned = find_image(client, ort)
    assert pinned not in {None, stand_in}
    assert prepare() is False
    assert said == []
    for image in (stand_in, pinned, reference):
        client.images.remove(image, force=True)


def test_a_tag_is_no_pin(client: docker.DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BASE_VARIABLE, "registry.example/base:latest")
    with pytest.raises(UsageError, match="names no digest"):
        ensure(client, tmp_path)
