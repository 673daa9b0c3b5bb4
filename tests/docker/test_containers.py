"""Containers of a real engine: what they are allowed, whose their files are, and that none outlives its run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from portwright.engines.base import Event, Job
from portwright.engines.docker import DockerEngine
from portwright.engines.docker_api import UNIX, engine_host
from portwright.engines.docker_owner import OWNER_LABEL, reap
from portwright.errors import DataError, EngineError, InterruptedRunError, PortwrightError, StageFailedError
from portwright.packages import PackageSettings, read_settings
from portwright.toolchain import Toolchain
from support.commands import ROOT

pytestmark = pytest.mark.docker


def ignore(_: Event) -> None:
    pass


def ours() -> list[str]:
    client = docker.from_env()
    try:
        return [container.name or "" for container in client.containers.list(all=True, filters={"label": OWNER_LABEL})]
    finally:
        client.close()


def test_a_container_is_allowed_nothing_it_does_not_need(engine: DockerEngine, ort: Toolchain, job: Job) -> None:
    events: list[Event] = []
    outcome = engine.run(ort, job, events.append)
    seen = outcome.facts
    assert seen["user"] == ([os.getuid(), os.getgid()] if os.getuid() else [65534, 65534])
    assert int(seen["capabilities"], 16) == 0
    assert seen["privileges"] == "1"
    assert seen["interfaces"] == ["lo"]
    assert [seen[place] for place in ("root", "library", "input", "temporary")] == [False, False, False, True]
    assert seen["socket"] is False
    assert seen["read"] == "weights"
    assert outcome.peak_memory_bytes > 0
    assert Event(kind="progress", done=0.5, text="half way") in events
    assert "a library's own words" in job.log.read_text()
    assert ours() == []


def test_what_a_container_made_is_the_callers(engine: DockerEngine, ort: Toolchain, job: Job) -> None:
    engine.run(ort, job, ignore)
    made = [job.output, *job.output.rglob("*")]
    assert len(made) == 3
    assert {path.stat().st_uid for path in made} == {os.getuid()}
    assert [path.name for path in job.output.parent.iterdir()] == ["output"]


def test_limits_as_the_engine_sees_them(engine: DockerEngine, ort: Toolchain, job: Job) -> None:
    started = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            engine.run(ort, replace(job, stage="sleeper"), lambda _: started.set())
        except EngineError as error:
            failures.append(error)
        except StageFailedError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(60)
    client = docker.from_env()
    [container] = client.containers.list(filters={"label": OWNER_LABEL})
    host = container.attrs["HostConfig"]
    container.kill()
    thread.join(60)
    client.close()
    assert host["ReadonlyRootfs"] is True
    assert host["NetworkMode"] == "none"
    assert host["CapDrop"] == ["ALL"]
    assert host["Privileged"] is False
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["PidsLimit"] > 0
    assert 0 < host["Memory"] == host["MemorySwap"]
    assert host["Init"] is True
    mounts = {mount["Target"]: mount.get("ReadOnly", False) for mount in host["Mounts"]}
    assert mounts == {
        "/stagelib": True, "/in/model": True, "/out": False, "/call": False, "/scratch": False, "/hub": False,
    }  # fmt: skip
    assert "memory" in str(failures[0])


@pytest.mark.parametrize(
    ("stage", "error", "words"),
    [
        ("refuser", DataError, ["it is wet", "dry it"]),
        ("leaver", StageFailedError, ["exit code 3"]),
        ("absent", StageFailedError, ["No module named 'stagelib.stages.absent'"]),
    ],
)
def test_a_stage_that_fails(
    engine: DockerEngine, ort: Toolchain, job: Job, stage: str, error: type[Exception], words: list[str]
) -> None:
    with pytest.raises(error) as caught:
        engine.run(ort, replace(job, stage=stage), ignore)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)
    assert ours() == []


def test_a_stage_that_runs_out_of_memory(engine: DockerEngine, ort: Toolchain, job: Job) -> None:
    engine._connected = replace(engine._connection(), memory=256 << 20)
    with pytest.raises(StageFailedError, match=r"ran out of memory(.|\n)*0.3 GB"):
        engine.run(ort, replace(job, stage="eater"), ignore)
    assert ours() == []


def test_a_stage_that_never_ends(engine: DockerEngine, ort: Toolchain, job: Job) -> None:
    with pytest.raises(StageFailedError, match="still running after 2 s"):
        engine.run(ort, replace(job, stage="sleeper", deadline_s=2.0), ignore)
    assert ours() == []


@pytest.mark.parametrize("how_many", [1, 2])
def test_an_engine_that_is_stopped_leaves_nothing(
    engine: DockerEngine, ort: Toolchain, job: Job, tmp_path: Path, how_many: int
) -> None:
    """Containers of several threads end at once, and no other starts."""
    started = [threading.Event() for _ in range(how_many)]
    ended: list[PortwrightError] = []

    def run(number: int) -> None:
        output = tmp_path / f"work{number}" / "output"
        output.mkdir(parents=True)
        sleeper = replace(
            job, stage="sleeper", output=output, log=tmp_path / f"log{number}", threads=1, memory=64 << 20
        )
        try:
            engine.run(ort, sleeper, lambda _: started[number].set())
        except PortwrightError as error:
            ended.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(how_many)]
    for thread in threads:
        thread.start()
    assert all(event.wait(60) for event in started)
    assert len(ours()) == how_many
    engine.stop()
    for thread in threads:
        thread.join(60)
    assert len(ended) == how_many
    assert ours() == []
    with pytest.raises(InterruptedRunError):
        engine.run(ort, replace(job, stage="sleeper"), ignore)
    assert ours() == []


KILLED = """
import sys
from pathlib import Path
from portwright.engines.base import Job
from portwright.engines.docker import DockerEngine
from portwright.packages import read_settings
from portwright.project import this_project
from portwright.toolchain import load_toolchains
shared, folder = Path(sys.argv[1]), Path(sys.argv[2])
(folder / "output").mkdir(parents=True)
ort = load_toolchains(this_project().docker)["ort"]
job = Job(stage="sleeper", params={}, inputs={}, output=folder / "output", log=folder / "log", label="t/sleeper")
DockerEngine(shared, folder, read_settings).run(ort, job, lambda _: print("started", flush=True))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_client_leaves_nothing_for_long(
    engine: DockerEngine, shared: Path, tmp_path: Path, how: signal.Signals
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(shared), str(tmp_path / "killed")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "started\n"
        assert len(ours()) == 1
        assert reap(engine._client) == 0
        child.send_signal(how)
        try:
            child.wait(30)
        finally:
            child.kill()
    reaped = reap(engine._client)
    assert reaped == (1 if how is signal.SIGKILL else 0)
    assert ours() == []


def test_an_image_that_is_there_is_not_built(engine: DockerEngine, ort: Toolchain) -> None:
    started = time.monotonic()
    assert engine.prepare(ort, ignore) is False
    assert time.monotonic() - started < 30


@pytest.mark.usefixtures("engine")
def test_nothing_to_build_takes_no_sdk_and_no_settings(ort: Toolchain, shared: Path, tmp_path: Path) -> None:
    if not engine_host().startswith(UNIX):
        pytest.skip("only an engine on a Unix socket is asked without the SDK")

    def settings() -> PackageSettings:
        raise AssertionError("pip was asked")

    opened = DockerEngine(shared, tmp_path / "docker", settings)
    assert opened.prepare(ort, ignore) is False
    assert opened._connected is None
    opened.close()


@pytest.mark.usefixtures("engine")
def test_nothing_of_this_machine_is_in_the_image(ort: Toolchain) -> None:
    client = docker.from_env()
    [image] = client.images.list(filters={"label": f"portwright.toolchain={ort.digest('docker')}"})
    history = str(image.history())
    container = client.containers.create(image, ["true"])
    exported: Iterable[Any] = container.export()
    # What a container sees, uncompressed: the final stage is the base and one copy, with nothing beneath it to hide.
    content = b"".join(exported)
    container.remove()
    client.close()
    settings = read_settings()
    assert b"opt/toolchain/bin/python" in content
    assert b"settings.env" not in content
    for place in (*settings.find_links, *settings.extra_indexes, settings.index or ""):
        assert not place or (place not in history and place.encode() not in content)
    if settings.certificate:
        own = settings.certificate.read_text().strip().splitlines()[-2]
        assert own.encode() not in content


def test_a_build_that_fails_says_where(engine: DockerEngine, ort: Toolchain, tmp_path: Path) -> None:
    folder = tmp_path / "toolchains" / "broken"
    folder.mkdir(parents=True)
    for path in ort.folder.iterdir():
        (folder / path.name).write_text(path.read_text())
    (tmp_path / "toolchains" / "base").symlink_to(ort.base)
    (folder / "requirements.lock").write_text("no-such-thing-as-this==1.0 --hash=sha256:" + "0" * 64 + "\n")
    with pytest.raises(EngineError) as caught:
        engine.prepare(Toolchain("broken", folder), ignore)
    assert "portwright/broken" in str(caught.value)
    assert "no-such-thing-as-this" in str(caught.value)
    assert caught.value.log is not None
    assert "no-such-thing-as-this" in caught.value.log.read_text()


def test_an_engine_that_is_down(monkeypatch: pytest.MonkeyPatch, shared: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")
    with pytest.raises(EngineError) as caught:
        DockerEngine(shared, tmp_path, PackageSettings)
    assert f"{tmp_path}/nothing.sock" in str(caught.value)
    assert "--engine=venv" in str(caught.value)
