"""Package settings: what pip has, in uv's words."""

from __future__ import annotations

from pathlib import Path

import pytest

from portwright import packages
from portwright.packages import PackageSettings, index_path, install_hint, local_path, pip_options, read_settings

LISTING = """\
:env:.find-links='/wheels'
global.cert='/certs/ca.pem'
global.extra-index-url='https://one.example/simple https://two.example/simple'
global.find-links='/other'
install.index-url='https://mirror.example/simple'
global.index-url='https://elsewhere.example/simple'
install.trusted-host='mirror.example'
freeze.timeout='10'
"""


@pytest.fixture
def listing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_pip_config", lambda _: LISTING)


def test_the_environment_wins_over_install_and_that_over_global() -> None:
    found = pip_options(LISTING)
    assert found["find-links"] == "/wheels"
    assert found["index-url"] == "https://mirror.example/simple"
    assert "timeout" not in found


@pytest.mark.usefixtures("listing")
def test_pips_settings_in_uvs_words() -> None:
    environment = read_settings({}).uv_environment()
    assert environment["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert environment["UV_INDEX"] == "https://one.example/simple https://two.example/simple"
    assert environment["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert environment["UV_INSECURE_HOST"] == "mirror.example"


@pytest.mark.usefixtures("listing")
def test_uvs_own_variables_win(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("certificate")
    settings = read_settings(
        {
            "UV_DEFAULT_INDEX": "https://uv.example/simple",
            "UV_FIND_LINKS": str(tmp_path),
            "SSL_CERT_FILE": str(tmp_path / "ca.pem"),
        }
    )
    assert settings.index == "https://uv.example/simple"
    assert settings.find_links == (str(tmp_path),)
    assert settings.certificate == tmp_path / "ca.pem"


@pytest.mark.usefixtures("listing")
def test_folders_that_are_not_there_are_left_out() -> None:
    settings = read_settings({})
    assert settings.find_links == ()
    assert settings.certificate is None


def test_nothing_set_is_nothing_said() -> None:
    assert PackageSettings().uv_environment() == {}


@pytest.mark.parametrize(
    ("place", "path"),
    [("file:///a/simple", "/a/simple"), ("/a/wheels", "/a/wheels"), ("https://x.example/simple", None)],
)
def test_places_that_are_folders(place: str, path: str | None) -> None:
    assert local_path(place) == (Path(path) if path else None)


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ("own=file:///a/simple", "/a/simple"),
        ("own=/a/simple", "/a/simple"),
        ("own=https://x.example/simple", None),
        ("https://x.example/simple?a=b", None),
    ],
)
def test_an_index_may_have_a_name(place: str, path: str | None) -> None:
    assert index_path(place) == (Path(path) if path else None)


@pytest.mark.usefixtures("listing")
def test_uvs_named_indexes_are_kept_with_their_names(tmp_path: Path) -> None:
    indexes = f"torch=https://torch.example/cpu mine={tmp_path} gone={tmp_path}/gone"
    settings = read_settings({"UV_INDEX": indexes})
    assert settings.uv_environment()["UV_INDEX"] == f"torch=https://torch.example/cpu mine={tmp_path}"
    assert settings.local_folders() == (tmp_path,)


@pytest.mark.usefixtures("listing")
def test_uv_separates_find_links_by_commas_only(tmp_path: Path) -> None:
    folder = tmp_path / "my wheels"
    folder.mkdir()
    assert read_settings({"UV_FIND_LINKS": f"{folder},{tmp_path}"}).find_links == (str(folder), str(tmp_path))


def test_a_user_without_a_home_has_no_folder_there() -> None:
    assert local_path("~no-such-user/wheels") == Path("~no-such-user/wheels")


def test_a_failed_install_says_what_to_do() -> None:
    assert "PyTorch" in install_hint("there is no version of torch==2.13.0+cpu")
    assert "PIP_CERT" in install_hint("invalid peer certificate: UnknownIssuer")
    assert "pip config list" in install_hint("error sending request")
    assert "make lock" in install_hint("Hash mismatch for onnx")
    built = " + torch==2.13.0+cpu\nexecutor failed running [/bin/sh -c false]: exit code: 1"
    assert install_hint(built) == "the log holds the whole output"
