"""A toolchain without a Dockerfile: the venv engine's alone, and an image of it is refused with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from portwright.engines.docker import DockerEngine
from portwright.errors import EngineError
from portwright.project import this_project
from portwright.toolchain import load_toolchains


def test_directml_is_one_and_its_lock_is_for_windows() -> None:
    toolchains = load_toolchains(this_project().docker)
    assert not toolchains["directml"].has_image
    assert toolchains["ort"].has_image
    assert toolchains["directml"].can_run(("onnxruntime-directml", "onnx", "numpy"))
    assert "# platform: x86_64-pc-windows-msvc" in (toolchains["directml"].folder / "requirements.in").read_text()


def test_docker_refuses_it_and_names_the_other_engine(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "requirements.in").write_text("a==1\n")
    (folder / "requirements.lock").write_text("a==1\n")
    toolchain = load_toolchains(tmp_path)["here"]
    engine = DockerEngine.__new__(DockerEngine)
    with pytest.raises(EngineError, match="no image") as caught:
        engine.prepare(toolchain, lambda _: None)
    assert "--engine=venv" in caught.value.hint
