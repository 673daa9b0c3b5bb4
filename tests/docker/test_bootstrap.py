"""The bootstrapped base: silent about its mirror, under every toolchain, and impossible without mmdebstrap."""

from __future__ import annotations

import io
import json
import struct
import tarfile
from pathlib import Path
from typing import Any

import pytest

from portwright.engines.buildkit import EPOCH
from portwright.engines.docker import DockerEngine
from portwright.engines.docker_base import ensure_base
from portwright.engines.docker_image import find_image
from portwright.errors import EngineError
from portwright.project import this_project
from portwright.toolchain import BASE_VARIABLE, Toolchain, load_toolchains

pytestmark = pytest.mark.docker


@pytest.fixture
def base(engine: DockerEngine, ort: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv(BASE_VARIABLE, raising=False)
    return ensure_base(engine._client, ort, tmp_path / "base.log", lambda _: None).tag


def test_the_base_does_not_say_where_it_came_from(engine: DockerEngine, base: str) -> None:
    assert b"sources.list" not in exported(engine, base)


def test_the_base_brings_bytecode_that_no_container_could_keep(engine: DockerEngine, base: str) -> None:
    with tarfile.open(fileobj=io.BytesIO(exported(engine, base))) as tar:
        files = {member.name: member for member in tar if member.isfile()}
        compiled = tar.extractfile("usr/lib/python3.11/json/__pycache__/decoder.cpython-311.pyc")
        assert compiled is not None
        assert struct.unpack("<I", compiled.read(8)[4:]) == (1,), "an unchecked hash: no time in it"
    assert [files[f"etc/{name}"].size for name in ("hosts", "resolv.conf")] == [0, 0]


def exported(engine: DockerEngine, image: str) -> bytes:
    """All files of an image, as a tar."""
    container = engine._client.containers.create(image, ["true"])
    try:
        blocks: Any = container.export()  # bytes, whatever the stubs say
        return b"".join(blocks)
    finally:
        container.remove()


def test_an_image_is_its_base_and_one_layer(engine: DockerEngine, ort: Toolchain, base: str) -> None:
    image = find_image(engine._client, ort)
    assert image is not None
    layers = engine._client.images.get(image).attrs["RootFS"]["Layers"]
    assert layers[:-1] == engine._client.images.get(base).attrs["RootFS"]["Layers"]


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize("name", ["ort", "trt"])
def test_a_layer_holds_the_environment_and_one_time(engine: DockerEngine, tmp_path: Path, name: str) -> None:
    toolchain = load_toolchains(this_project().docker)[name]
    engine.prepare(toolchain, lambda _: None)
    image = find_image(engine._client, toolchain)
    assert image is not None
    with (tmp_path / "image.tar").open("wb") as file:
        file.writelines(engine._client.images.get(image).save())
    with tarfile.open(tmp_path / "image.tar") as tar:
        listed = tar.extractfile("manifest.json")
        assert listed is not None
        layer = tar.extractfile(json.load(listed)[0]["Layers"][-1])
        with tarfile.open(fileobj=layer) as members:
            found = [(member.name.split("/")[0], member.mtime) for member in members]
    assert set(found) == {("opt", EPOCH)}


def test_an_image_on_another_base_is_not_the_one_asked_for(
    engine: DockerEngine, ort: Toolchain, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_image(engine._client, ort) is not None
    monkeypatch.setenv(BASE_VARIABLE, f"registry.example/base@sha256:{'1' * 64}")
    assert find_image(engine._client, ort) is None


def test_a_missing_mmdebstrap_is_named_with_what_installs_it(
    engine: DockerEngine, ort: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    text = (ort.base / "base.toml").read_text()
    (folder / "base.toml").write_text(text.replace('suite = "bookworm"', 'suite = "trixie"'))
    monkeypatch.delenv(BASE_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match=r"apt-get install mmdebstrap.*PORTWRIGHT_BASE_IMAGE_OWN="):
        ensure_base(engine._client, Toolchain("own", folder), tmp_path / "log", lambda _: None)
