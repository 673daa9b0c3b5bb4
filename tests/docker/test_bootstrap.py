"""The bootstrapped base: silent about its mirror, under every toolchain, and impossible without mmdebstrap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from portwright.engines.docker import DockerEngine
from portwright.engines.docker_base import ensure_base
from portwright.engines.docker_image import find_image
from portwright.errors import EngineError
from portwright.toolchain import BASE_VARIABLE, Toolchain

pytestmark = pytest.mark.docker


@pytest.fixture
def base(engine: DockerEngine, ort: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv(BASE_VARIABLE, raising=False)
    return ensure_base(engine._client, ort, tmp_path / "base.log", lambda _: None).tag


def test_the_base_does_not_say_where_it_came_from(engine: DockerEngine, base: str) -> None:
    container = engine._client.containers.create(base, ["true"])
    try:
        blocks: Any = container.export()  # bytes, whatever the stubs say
        assert b"sources.list" not in b"".join(blocks)
    finally:
        container.remove()


def test_an_image_is_its_base_and_one_layer(engine: DockerEngine, ort: Toolchain, base: str) -> None:
    image = find_image(engine._client, ort)
    assert image is not None
    layers = engine._client.images.get(image).attrs["RootFS"]["Layers"]
    assert layers[:-1] == engine._client.images.get(base).attrs["RootFS"]["Layers"]


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
