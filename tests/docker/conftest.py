"""A real engine, and jobs small enough to look at from outside while they run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from portwright.engines.base import Job
from portwright.engines.docker import DockerEngine
from portwright.packages import read_settings
from portwright.project import this_project
from portwright.toolchain import Toolchain, load_toolchains

PROJECT = this_project()
STAGES = {
    "probe": """
import json, os, pathlib, socket
def run(call, params):
    def allowed(action):
        try:
            action()
        except OSError:
            return False
        return True
    seen = {
        "user": [os.getuid(), os.getgid()],
        "capabilities": pathlib.Path("/proc/self/status").read_text().split("CapEff:")[1].split()[0],
        "privileges": pathlib.Path("/proc/self/status").read_text().split("NoNewPrivs:")[1].split()[0],
        "interfaces": sorted(name for _, name in socket.if_nameindex()),
        "root": allowed(lambda: pathlib.Path("/file").write_text("")),
        "library": allowed(lambda: pathlib.Path("/stagelib/file").write_text("")),
        "input": allowed(lambda: (call.inputs["model"] / "file").write_text("")),
        "temporary": allowed(lambda: pathlib.Path("/tmp/file").write_text("")),
        "socket": pathlib.Path("/var/run/docker.sock").exists(),
        "read": (call.inputs["model"] / "weights").read_text(),
    }
    (call.output / "made").mkdir()
    (call.output / "made" / "file").write_text("x")
    call.progress(0.5, "half way")
    print("a library's own words")
    return Result(facts=seen)
""",
    "fetcher": """
import os
from pathlib import Path
def run(call, params):
    snapshot = call.fills / "hub" / "models--a--b" / "snapshots" / "c0"
    snapshot.mkdir(parents=True)
    blobs = call.fills / "hub" / "models--a--b" / "blobs"
    blobs.mkdir()
    (blobs / "e1").write_text("weights")
    (snapshot / "model.safetensors").symlink_to("../../blobs/e1")
    certificate = os.environ.get("SSL_CERT_FILE")
    return Result(facts={
        "cache": sorted(path.name for path in call.cache.iterdir()) if call.cache else None,
        "token": (call.cache / "token").read_text() if call.cache and (call.cache / "token").exists() else None,
        "certificate": Path(certificate).read_text() if certificate else None,
        "hub": os.environ.get("HF_ENDPOINT"),
        "named": call.inputs["local"].name if "local" in call.inputs else None,
        "offline": os.environ.get("HF_HUB_OFFLINE"),
        "interfaces": len(__import__("socket").if_nameindex()),
    })
""",
    "linker": """
def run(call, params):
    (call.output / "a").write_text("x")
    (call.output / "b").hardlink_to(call.output / "a")
    return Result(facts={
        "model": (call.inputs["model"] / "weights, v1.bin").read_text(),
        "local": [call.inputs["local"].name, call.inputs["local"].read_text()],
    })
""",
    "sleeper": """
import time
def run(call, params):
    call.progress(0.1, "asleep")
    time.sleep(600)
""",
    "eater": """
def run(call, params):
    block = b"x" * (1 << 30)
    return Result(facts={"size": len(block)})
""",
    "leaver": """
import os
def run(call, params):
    os._exit(3)
""",
    "refuser": """
def run(call, params):
    raise StageError("it is wet", hint="dry it", kind="data")
""",
}
HEADER = """
from dataclasses import dataclass
from stagelib.api import Result, Stage, StageError
@dataclass(frozen=True, kw_only=True)
class Params:
    pass
STAGE = Stage(summary="for a test", params=Params)
"""


@pytest.fixture(scope="session")
def ort() -> Toolchain:
    return load_toolchains(PROJECT.docker)["ort"]


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """The stage library with stages that show what a container is allowed."""
    library = tmp_path / "shared" / "stagelib"
    (library / "stages").mkdir(parents=True)
    for path in (PROJECT.shared / "stagelib").glob("*.py"):
        (library / path.name).write_text(path.read_text())
    (library / "stages" / "__init__.py").touch()
    for name, source in STAGES.items():
        (library / "stages" / f"{name}.py").write_text(HEADER + source)
    return tmp_path / "shared"


@pytest.fixture
def engine(docker_engine: None, shared: Path, tmp_path: Path, ort: Toolchain) -> Iterator[DockerEngine]:
    assert docker_engine is None
    opened = DockerEngine(shared, tmp_path / "docker", read_settings)
    opened.prepare(ort, lambda _: None)
    yield opened
    opened.close()


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job of the probe stage, with one input that only its owner may read."""
    work = tmp_path / "work"
    output = work / "output"
    output.mkdir(parents=True)
    model = tmp_path / "model"
    model.mkdir(mode=0o700)
    (model / "weights").write_text("weights")
    (model / "weights").chmod(0o600)
    return Job(
        stage="probe", params={}, inputs={"model": model}, output=output, log=tmp_path / "log", label="test/probe"
    )
