"""A toolchain on a base of its own: which base.toml speaks, which variable, and what enters the digest."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portwright.engines.docker_base import ensure_base
from portwright.errors import EngineError, UsageError
from portwright.project import this_project
from portwright.toolchain import BASE_VARIABLE, Toolchain, load_toolchains

DIGESTED = f"registry.example/base@sha256:{'1' * 64}"
OTHER = f"registry.example/other@sha256:{'2' * 64}"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (BASE_VARIABLE, f"{BASE_VARIABLE}_PLAIN", f"{BASE_VARIABLE}_MY_OWN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def docker(tmp_path: Path) -> Path:
    """Two toolchains, `plain` on the shared base and `my-own` on its own."""
    folder = tmp_path / "docker"
    shutil.copytree(this_project().docker / "base", folder / "base")
    for name in ("plain", "my-own"):
        (folder / name).mkdir()
        (folder / name / "Dockerfile").write_text("FROM scratch\n")
        (folder / name / "requirements.lock").write_text("a==1 --hash=sha256:00\n")
    shutil.copyfile(folder / "base" / "base.toml", folder / "my-own" / "base.toml")
    return folder


@pytest.fixture
def load(docker: Path) -> Callable[[str], Toolchain]:
    """A toolchain as the next run reads it."""
    return lambda name: load_toolchains(docker)[name]


def test_its_own_base_speaks_for_it_and_the_installer_is_shared(docker: Path, load: Callable[[str], Toolchain]) -> None:
    assert load("plain").base == docker / "base"
    assert load("my-own").base == docker / "my-own"
    assert load("plain").installer == load("my-own").installer == docker / "base" / "install.sh"


@pytest.mark.parametrize(
    ("changed", "others"),
    [
        ("base/base.toml", {"plain"}),
        ("my-own/base.toml", {"my-own"}),
        ("base/install.sh", {"plain", "my-own"}),
    ],
)
def test_a_digest_changes_with_the_base_it_stands_on(
    docker: Path, load: Callable[[str], Toolchain], changed: str, others: set[str]
) -> None:
    before = {name: load(name).digest("docker") for name in ("plain", "my-own")}
    with (docker / changed).open("a") as file:
        file.write("# changed\n")
    assert {name for name in before if load(name).digest("docker") != before[name]} == others


def test_the_shared_variable_says_nothing_of_another_base(
    load: Callable[[str], Toolchain], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load("my-own").digest("docker")
    monkeypatch.setenv(BASE_VARIABLE, DIGESTED)
    assert load("plain").base_image == DIGESTED
    assert load("my-own").base_image == ""
    assert load("my-own").digest("docker") == before


def test_a_toolchains_own_variable_wins(load: Callable[[str], Toolchain], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BASE_VARIABLE, DIGESTED)
    before = {name: load(name).digest("docker") for name in ("plain", "my-own")}
    venv = load("plain").digest("venv")
    monkeypatch.setenv(f"{BASE_VARIABLE}_PLAIN", OTHER)
    monkeypatch.setenv(f"{BASE_VARIABLE}_MY_OWN", OTHER)
    for name in ("plain", "my-own"):
        assert load(name).base_image == OTHER
        assert load(name).digest("docker") != before[name]
    assert load("plain").digest("venv") == venv, "a venv has no base"


@pytest.mark.parametrize(("name", "variable"), [("plain", BASE_VARIABLE), ("my-own", f"{BASE_VARIABLE}_MY_OWN")])
def test_what_would_give_a_base_is_named(
    load: Callable[[str], Toolchain], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, variable: str
) -> None:
    class Images:
        def list(self, **_: Any) -> list[Any]:
            return []

    class Client:
        images = Images()

    monkeypatch.setenv("PATH", str(tmp_path))
    client: Any = Client()
    with pytest.raises(EngineError, match=rf"apt-get install mmdebstrap, or .* {variable}=name@sha256"):
        ensure_base(client, load(name), tmp_path / "log", lambda _: None)


def test_a_tag_in_its_own_variable_is_no_pin(
    load: Callable[[str], Toolchain], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{BASE_VARIABLE}_MY_OWN", "registry.example/base:latest")
    client: Any = None
    with pytest.raises(UsageError, match=r"registry\.example/base:latest names no digest"):
        ensure_base(client, load("my-own"), tmp_path / "log", lambda _: None)


def test_quark_has_the_compiler_that_it_needs() -> None:
    quark = load_toolchains(this_project().docker)["quark"]
    assert quark.base == quark.folder
    text = (quark.base / "base.toml").read_text()
    assert '"g++"' in text
    assert '"libpython3.11-dev"' in text
