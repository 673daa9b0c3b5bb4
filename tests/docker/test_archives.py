"""Vendor archives in real images: built in without a network, found where they belong, and no layer holds them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from portwright.engines.base import Event, Job
from portwright.engines.docker import DockerEngine
from portwright.engines.docker_image import TOOLCHAIN_LABEL, find_image
from portwright.errors import EngineError
from portwright.packages import PackageSettings, read_settings
from portwright.toolchain import Toolchain
from support.stand_in import make_tar, make_wheel, present, stand_in_toolchain

pytestmark = pytest.mark.docker
UNREACHABLE = PackageSettings(index="https://127.0.0.1:9/simple")
SEE = """
from importlib import metadata, util
from stagelib import vendor
from stagelib.api import Result, Stage
from dataclasses import dataclass
@dataclass(frozen=True, kw_only=True)
class Params:
    pass
STAGE = Stage(summary="what of the stand-ins is there", params=Params)
def run(call, params):
    facts = {"sdk": None, "provider": None, "compiler": None}
    sdk = vendor.folder("sdk")
    if sdk is not None:
        facts["sdk"] = {path.relative_to(sdk).as_posix(): path.read_text() for path in sdk.rglob("*") if path.is_file()}
        facts["writable"] = True
        try:
            (sdk / "x").write_text("")
        except OSError:
            facts["writable"] = False
    if util.find_spec("standin"):
        import standin
        facts["provider"] = [standin.ANSWER, metadata.version("standin-provider")]
        facts["compiler"] = sorted(path.name for path in (vendor.Path(standin.__file__).parent / "libs").iterdir())
    return Result(facts=facts)
"""


@pytest.fixture
def engine(docker_engine: None, shared: Path, tmp_path: Path) -> Iterator[DockerEngine]:
    """An engine whose package index can't be reached: whatever is built here is built without one."""
    assert docker_engine is None
    (shared / "stagelib" / "stages" / "see.py").write_text(SEE)
    settings = replace(UNREACHABLE, certificate=read_settings().certificate)
    opened = DockerEngine(shared, tmp_path / "docker-logs", lambda: settings)
    yield opened
    opened.close()


@pytest.fixture
def built(engine: DockerEngine) -> Iterator[list[Toolchain]]:
    """Toolchains whose images are removed afterwards."""
    toolchains: list[Toolchain] = []
    yield toolchains
    for toolchain in toolchains:
        if image := find_image(engine._client, toolchain):
            engine._client.images.remove(image, force=True)


def archives(folder: Path, answer: int = 42) -> list[Any]:
    wheel = make_wheel(folder, "standin_provider", "1.0", {"standin/__init__.py": f"ANSWER = {answer}\n"})
    compiler = make_tar(folder / "compiler.tgz", {"top/lib/libcompiler.so": "code", "top/README": "text"})
    sdk = make_tar(folder / "sdk.tgz", {"sdk-1.0/bin/tool": "program"})
    return [
        present(compiler, "compiler", "tar", inside="top/lib", place="standin/libs"),
        present(wheel, "provider", "wheel", provides=("standin-provider",)),
        present(sdk, "sdk", "tar"),
    ]


def see(engine: DockerEngine, toolchain: Toolchain, job: Job) -> Any:
    events: list[Event] = []
    assert engine.prepare(toolchain, events.append) is True
    assert engine.prepare(toolchain, events.append) is False
    return engine.run(toolchain, replace(job, stage="see"), events.append).facts


def test_archives_become_part_of_an_image(
    engine: DockerEngine, built: list[Toolchain], job: Job, tmp_path: Path
) -> None:
    without = stand_in_toolchain(tmp_path)
    with_them = stand_in_toolchain(tmp_path, archives(tmp_path))
    built += [without, with_them]
    assert see(engine, without, job) == {"sdk": None, "provider": None, "compiler": None}
    assert see(engine, with_them, job) == {
        "sdk": {"sdk-1.0/bin/tool": "program"},
        "writable": False,
        "provider": [42, "1.0"],
        "compiler": ["libcompiler.so"],
    }
    plain, full = (engine._client.images.get(find_image(engine._client, toolchain) or "") for toolchain in built)
    assert plain.id != full.id
    # The base and one layer, as without archives: they are mounted while it is built, and in none of its layers.
    assert len(full.attrs["RootFS"]["Layers"]) == len(plain.attrs["RootFS"]["Layers"])
    container = engine._client.containers.create(full, ["true"])
    exported: Iterable[Any] = container.export()
    content = b"".join(exported)
    container.remove()
    assert b"libcompiler.so" in content
    assert b"uv_cache.json" not in content  # it carries the time
    assert [item.name for item in with_them.archives if item.path.read_bytes() in content] == []
    assert full.labels["portwright.archives"] == "compiler 1.0, provider 1.0, sdk 1.0"


def test_another_archive_makes_another_image(
    engine: DockerEngine, built: list[Toolchain], job: Job, tmp_path: Path
) -> None:
    for answer in (1, 2):
        folder = tmp_path / str(answer)
        folder.mkdir()
        toolchain = stand_in_toolchain(tmp_path, archives(folder, answer))
        built.append(toolchain)
        assert see(engine, toolchain, job)["provider"] == [answer, "1.0"]
    assert built[0].digest("docker") != built[1].digest("docker")
    for toolchain in built:
        found = engine._client.images.list(filters={"label": f"{TOOLCHAIN_LABEL}={toolchain.digest('docker')}"})
        assert len(found) == 1


def test_an_archive_that_changed_after_it_was_verified_is_not_built_in(engine: DockerEngine, tmp_path: Path) -> None:
    given = archives(tmp_path)
    toolchain = stand_in_toolchain(tmp_path, given)
    make_tar(tmp_path / "sdk.tgz", {"evil": "program"})
    changed = hashlib.sha256((tmp_path / "sdk.tgz").read_bytes()).hexdigest()
    with pytest.raises(EngineError) as caught:
        engine.prepare(toolchain, lambda _: None)
    assert f"sdk.tgz was changed: its SHA-256 is {changed}" in str(caught.value)
    assert find_image(engine._client, toolchain) is None
