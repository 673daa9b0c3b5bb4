"""How files reach a container and come back: mounted where the engine sees this machine's files, copied elsewhere."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from portwright.engines.base import Event, Job
from portwright.engines.docker import DockerEngine
from portwright.engines.docker_api import docker_answers
from portwright.engines.docker_files import shares_files
from portwright.engines.docker_image import find_image
from portwright.engines.docker_owner import OWNER_LABEL, labels, reap
from portwright.errors import DataError, StageFailedError
from portwright.packages import PackageSettings
from portwright.toolchain import Toolchain

pytestmark = pytest.mark.docker
ELSEWHERE = {OWNER_LABEL: "another-machine:1:1"}


def ignore(_: Event) -> None:
    pass


@pytest.fixture
def client(engine: DockerEngine) -> Iterator[docker.DockerClient]:
    assert engine.kind == "docker"
    opened = docker.from_env()
    yield opened
    opened.close()


@pytest.fixture
def far(engine: DockerEngine, monkeypatch: pytest.MonkeyPatch) -> DockerEngine:
    """The same engine, taken for one that doesn't see this machine's files."""
    monkeypatch.setattr("portwright.engines.docker.shares_files", lambda *_: False)
    return engine


def left(client: docker.DockerClient) -> list[str]:
    containers = client.containers.list(all=True, filters={"label": OWNER_LABEL})
    volumes = client.volumes.list(filters={"label": OWNER_LABEL})
    return [*(str(item.name) for item in containers), *(str(item.name) for item in volumes)]


def test_an_engine_of_this_machine_sees_its_files(
    client: docker.DockerClient, ort: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = find_image(client, ort)
    assert image is not None
    assert shares_files(client, image, tmp_path) is True
    # A path that exists on both sides, with another machine's content.
    monkeypatch.setattr("portwright.engines.docker_files.secrets.token_hex", lambda _: "x")
    monkeypatch.setattr(
        Path, "write_text", lambda path, text: path.write_bytes(b"another machine's" + text[:0].encode())
    )
    assert shares_files(client, image, tmp_path) is False
    assert left(client) == []


def test_files_are_copied_where_they_are_not_seen(
    far: DockerEngine, client: docker.DockerClient, ort: Toolchain, job: Job
) -> None:
    events: list[Event] = []
    outcome = far.run(ort, job, events.append)
    assert outcome.facts["read"] == "weights"
    assert outcome.facts["input"] is False
    assert outcome.facts["interfaces"] == ["lo"]
    assert any("copied in and out" in event.text for event in events)
    assert (job.output / "made" / "file").read_text() == "x"
    assert {path.stat().st_uid for path in (job.output, *job.output.rglob("*"))} == {os.getuid()}
    assert [path.name for path in job.output.parent.iterdir()] == ["output"]
    assert left(client) == []


@pytest.mark.parametrize(("stage", "error"), [("refuser", DataError), ("leaver", StageFailedError)])
def test_a_stage_that_fails_far_away(
    far: DockerEngine, client: docker.DockerClient, ort: Toolchain, job: Job, stage: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        far.run(ort, replace(job, stage=stage), ignore)
    assert left(client) == []


@pytest.mark.parametrize("where", ["engine", "far"])
def test_a_fetch_fills_the_callers_cache(
    request: pytest.FixtureRequest,
    ort: Toolchain,
    job: Job,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    engine: DockerEngine = request.getfixturevalue(where)
    home, certificate = tmp_path / "hf", tmp_path / "ca.pem"
    (home / "hub" / "models--x").mkdir(parents=True)
    (home / "token").write_text("made up")
    (home / "token").chmod(0o600)
    certificate.write_text("authority")
    certificate.chmod(0o600)
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    engine._settings = functools.cache(lambda: PackageSettings(certificate=certificate))
    (tmp_path / "my texts.jsonl").write_text("{}")
    fetch = replace(job, stage="fetcher", inputs={"local": tmp_path / "my texts.jsonl"}, network=True, hub_cache=home)
    outcome = engine.run(ort, fetch, ignore)
    near = where == "engine"
    assert outcome.facts["cache"] == (["hub", "token"] if near else None)
    assert outcome.facts["token"] == ("made up" if near else None)
    assert outcome.facts["certificate"] == "authority"
    assert outcome.facts["hub"] == "https://hub.example"
    assert outcome.facts["offline"] is None
    assert outcome.facts["named"] == "my texts.jsonl"
    assert outcome.facts["interfaces"] == 2
    merged = home / "hub" / "models--a--b" / "snapshots" / "c0" / "model.safetensors"
    assert merged.readlink() == Path("../../blobs/e1")
    assert (merged.read_text(), merged.stat().st_uid) == ("weights", os.getuid())


@pytest.mark.parametrize("where", ["engine", "far"])
def test_names_with_spaces_commas_and_links_are_as_good_as_others(
    request: pytest.FixtureRequest, ort: Toolchain, job: Job, tmp_path: Path, where: str
) -> None:
    engine: DockerEngine = request.getfixturevalue(where)
    top = tmp_path / "my models, v1: a=b"
    (top / "out").mkdir(parents=True)
    (top / "weights, v1.bin").write_text("weights")
    (top / "real texts").write_text("{}")
    (tmp_path / "my texts, 2.jsonl").symlink_to(top / "real texts")
    inputs = {"model": top, "local": tmp_path / "my texts, 2.jsonl"}
    outcome = engine.run(ort, replace(job, stage="linker", inputs=inputs, output=top / "out"), ignore)
    assert outcome.facts == {"model": "weights", "local": ["my texts, 2.jsonl", "{}"]}
    assert [(top / "out" / name).read_text() for name in ("a", "b")] == ["x", "x"]


@pytest.mark.parametrize("where", ["engine", "far"])
def test_a_certificate_bundle_may_be_a_link(
    request: pytest.FixtureRequest, ort: Toolchain, job: Job, tmp_path: Path, where: str
) -> None:
    engine: DockerEngine = request.getfixturevalue(where)
    (tmp_path / "bundle").write_text("authority")
    (tmp_path / "ca.pem").symlink_to("bundle")
    engine._settings = functools.cache(lambda: PackageSettings(certificate=tmp_path / "ca.pem"))
    assert engine.run(ort, replace(job, stage="fetcher", network=True), ignore).facts["certificate"] == "authority"


def test_what_other_machines_left_is_removed_after_its_time(
    engine: DockerEngine, client: docker.DockerClient, ort: Toolchain
) -> None:
    own = engine._client  # which removes such things itself when it connects
    image = find_image(client, ort)
    assert image is not None
    young = client.containers.create(image, ["true"], labels={**labels(60.0), **ELSEWHERE})
    old = client.containers.create(image, ["true"], labels={**labels(-3600.0), **ELSEWHERE})
    gone = client.volumes.create(labels={**labels(-3600.0), **ELSEWHERE})
    try:
        assert reap(own) == 2
        assert left(client) == [young.name]
        assert old.name != gone.name
    finally:
        young.remove(force=True)


def test_the_probe_says_which_engine_answers_or_why_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert docker_answers() == (False, f"unix://{tmp_path}/none.sock: No such file or directory")
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    answers, why = docker_answers()
    assert answers is False
    assert "tcp://127.0.0.1:9" in why
