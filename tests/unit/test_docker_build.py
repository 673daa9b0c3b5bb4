"""What goes into an image build, and what BuildKit says of it."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import docker
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from portwright.digests import DigestMemory
from portwright.engines import docker_api, docker_image
from portwright.engines.buildkit import _records, build_context, trace_texts
from portwright.engines.docker_api import engine_host
from portwright.engines.docker_base import ensure_base
from portwright.engines.docker_image import STAND_IN_LABEL, find_image, local_wheels, settings_file
from portwright.errors import EngineError, RecipeError
from portwright.packages import PackageSettings
from portwright.project import this_project
from portwright.toolchain import BASE_VARIABLE, Toolchain


def test_a_context_is_a_plain_tar_and_always_the_same(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("x")
    files: dict[str, Path | bytes] = {"lock": tmp_path / "lock", "Dockerfile": b"FROM scratch"}
    context = b"".join(build_context(files))
    assert context == b"".join(build_context(files))
    with tarfile.open(fileobj=io.BytesIO(context)) as tar:
        members = {member.name: member for member in tar}
        assert tar.format == tarfile.GNU_FORMAT or not tar.pax_headers
    assert set(members) == {"Dockerfile", "lock"}
    assert all(member.mtime == int(member.mtime) and member.type == tarfile.REGTYPE for member in members.values())


@given(st.lists(st.integers(1, 40)))
def test_records_may_be_cut_anywhere(sizes: list[int]) -> None:
    records = [{"stream": "Grüße"}, {"error": "no"}, {"aux": "abc", "id": "x"}]
    data = "\r\n".join(json.dumps(record) for record in records).encode()
    chunks = []
    for size in sizes:
        chunks.append(data[:size])
        data = data[size:]
    assert list(_records(iter([*chunks, data]))) == records


def field(number: int, payload: bytes) -> bytes:
    return bytes([number << 3 | 2, len(payload)]) + payload


def test_a_trace_gives_steps_and_lines() -> None:
    started = field(5, b"\x08\x01")
    trace = (
        field(1, field(1, b"sha256:a") + field(3, b"RUN sh install.sh") + started)
        + field(1, field(3, b"not started"))
        + field(1, field(3, b"[internal] load build context") + started)
        + field(3, field(1, b"sha256:a") + b"\x18\x02" + field(4, b"Resolved 5 packages\n"))
    )
    assert list(trace_texts(trace)) == ["RUN sh install.sh", "Resolved 5 packages\n"]


@given(st.binary(max_size=200))
def test_a_trace_of_nonsense_is_no_crash(data: bytes) -> None:
    assert all(isinstance(text, str) for text in trace_texts(data))


def test_settings_name_no_folder_of_this_machine(tmp_path: Path) -> None:
    settings = PackageSettings(
        index="https://index.example/simple?a=$HOME",
        extra_indexes=("file:///somewhere/simple", "own=/somewhere/simple", "https://extra.example/simple"),
        find_links=(str(tmp_path), "https://wheels.example/page"),
        certificate=tmp_path / "ca.pem",
    )
    text = settings_file(settings, with_wheels=True)
    assert "export UV_DEFAULT_INDEX='https://index.example/simple?a=$HOME'\n" in text
    assert "UV_INDEX=https://extra.example/simple\n" in text
    assert "UV_FIND_LINKS=https://wheels.example/page,/tmp/local/wheels\n" in text
    assert "SSL_CERT_FILE=/tmp/context/ca.crt\n" in text
    assert str(tmp_path) not in text
    assert "somewhere" not in text


def test_only_wheels_that_the_lock_names_are_taken(tmp_path: Path) -> None:
    flat, index = tmp_path / "wheels", tmp_path / "simple"
    (index / "other-thing").mkdir(parents=True)
    (tmp_path / "packages").mkdir()
    flat.mkdir()
    wanted = flat / "my_torch-2.0+cpu-py3-none-any.whl"
    wanted.write_bytes(b"right")
    (flat / "my_torch-2.0-py3-none-any.whl").write_bytes(b"another build")
    (flat / "unnamed-1.0-py3-none-any.whl").write_bytes(b"right")
    linked = tmp_path / "packages" / "other_thing-1.0-py3-none-any.whl"
    linked.write_bytes(b"linked")
    (index / "other-thing" / "index.html").write_text(
        '<a href="../../packages/other_thing-1.0-py3-none-any.whl#sha256=1">x</a><a href="gone.whl">y</a>'
    )
    folder = tmp_path / "docker" / "t"
    folder.mkdir(parents=True)
    hashes = [hashlib.sha256(data).hexdigest() for data in (b"right", b"linked")]
    (folder / "requirements.lock").write_text(
        f"my-torch==2.0+cpu --hash=sha256:{hashes[0]}\nother-thing==1.0 --hash=sha256:{hashes[1]}\n"
    )
    settings = PackageSettings(find_links=(str(flat),), extra_indexes=(f"file://{index}",))
    assert local_wheels(Toolchain("t", folder), settings, DigestMemory(tmp_path / "digests")) == [wanted, linked]


def test_a_wheel_that_is_a_link_is_sent_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "store").write_bytes(b"wheel")
    (tmp_path / "a-1.0-py3-none-any.whl").symlink_to("store")
    sent: list[bytes] = []
    monkeypatch.setattr(docker_image, "import_tar", lambda _, blocks, __: sent.extend(blocks))
    client: Any = SimpleNamespace(api=SimpleNamespace(images=lambda **_: []))
    assert docker_image._mounted(
        client, "wheels", [tmp_path / "a-1.0-py3-none-any.whl"], DigestMemory(tmp_path / "digests")
    )
    with tarfile.open(fileobj=io.BytesIO(b"".join(sent))) as tar:
        content = tar.extractfile("wheels/a-1.0-py3-none-any.whl")
        assert content is not None
        assert content.read() == b"wheel"


def image(identity: str, *labels: str) -> dict[str, Any]:
    return {"Id": identity, "Labels": dict.fromkeys(labels, "x") or None}


@pytest.mark.parametrize(
    ("there", "any_base", "pinned_base"),
    [
        ([image("a", STAND_IN_LABEL), image("b")], "b", "b"),
        ([image("a", STAND_IN_LABEL)], "a", None),
        ([], None, None),
    ],
)
def test_an_image_on_a_stand_in_base_serves_only_where_no_other_is(
    tmp_path: Path, there: list[dict[str, Any]], any_base: str | None, pinned_base: str | None
) -> None:
    for name in ("t", "base"):
        (tmp_path / name).mkdir()
    toolchain = Toolchain("t", tmp_path / "t")
    client: Any = SimpleNamespace(api=SimpleNamespace(images=lambda **_: there))
    assert find_image(client, toolchain) == any_base
    assert find_image(client, toolchain, stand_ins=False) == pinned_base


def test_a_base_file_that_is_no_toml_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text("[registry\n")
    client: Any = None
    with pytest.raises(RecipeError, match=r"base.toml is not TOML(.|\n)*line 1"):
        ensure_base(client, Toolchain("t", tmp_path), tmp_path / "log", lambda _: None)


def test_an_engine_that_is_lost_during_a_pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: str) -> NoReturn:
        raise docker.errors.ImageNotFound("no such image")

    def lost(_: str) -> NoReturn:
        raise requests.exceptions.ConnectionError("connection reset")

    reference = f"registry.example/base@sha256:{'0' * 64}"
    monkeypatch.setenv(BASE_VARIABLE, reference)
    client: Any = SimpleNamespace(images=SimpleNamespace(get=absent, pull=lost))
    with pytest.raises(EngineError, match="connection reset") as caught:
        ensure_base(client, Toolchain("ort", this_project().docker / "ort"), tmp_path / "log", lambda _: None)
    assert reference in str(caught.value)


@pytest.mark.parametrize(
    ("said", "found"), [(b'[{"Id": "a"}]', [{"Id": "a"}]), (b"null", []), (b'{"message": "x"}', [])]
)
def test_a_busy_engine_is_given_its_time_to_list_images(
    monkeypatch: pytest.MonkeyPatch, said: bytes, found: list[Any]
) -> None:
    waited: list[float] = []

    class Pretended(docker_api._UnixConnection):
        def request(self, *_: Any, **__: Any) -> None:
            assert self.timeout is not None
            waited.append(self.timeout)

        def getresponse(self) -> Any:
            return io.BytesIO(said)

    monkeypatch.setattr(docker_api, "_UnixConnection", Pretended)
    assert docker_api.labelled_images("unix:///engine.sock", "x=y") == found
    with pytest.raises(EngineError, match="no Docker engine answers"):
        docker_api.unix_version("unix:///engine.sock")
    assert waited == [docker_api.LONG_S, docker_api.PROBE_S]


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    meta = tmp_path / "contexts" / "meta" / hashlib.sha256(b"far").hexdigest()
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text('{"Name": "far", "Endpoints": {"docker": {"Host": "ssh://far.example"}}}')
    return tmp_path


def test_the_engine_is_the_one_the_docker_client_would_use(
    configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine_host() == "unix:///var/run/docker.sock"
    (configuration / "config.json").write_text('{"currentContext": "far"}')
    assert engine_host() == "ssh://far.example"
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    assert engine_host() == "unix:///var/run/docker.sock"
    monkeypatch.setenv("DOCKER_HOST", "unix:///elsewhere.sock")
    assert engine_host() == "unix:///elsewhere.sock"


def test_a_user_without_a_home_has_the_default_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert engine_host() == "unix:///var/run/docker.sock"


@pytest.mark.parametrize("text", ["", "[]", '{"currentContext": "gone"}', '{"currentContext": 1}'])
def test_a_configuration_that_says_nothing_means_the_default(configuration: Path, text: str) -> None:
    (configuration / "config.json").write_text(text)
    assert engine_host() == "unix:///var/run/docker.sock"
