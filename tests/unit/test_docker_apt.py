"""The machine's own Debian archives, and no other vendor's."""

from __future__ import annotations

from pathlib import Path

import pytest

from portwright.engines.docker_apt import debian_sources

DEB822 = """\
# A comment: not a field
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
Uris: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian.gpg

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
"""
ONE_LINE = """\
deb [arch=amd64 signed-by=/keys/d.gpg] http://mirror.example/debian bookworm main contrib # ours
deb-src http://mirror.example/debian bookworm main
# deb http://off.example/debian bookworm main
deb http://vendor.example/linux bookworm stable
deb http://vendor.example/sdk sdk-bookworm main
"""


def test_a_sources_file(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "debian.sources").write_text(DEB822)
    found = debian_sources("bookworm", tmp_path)
    assert "Suites: bookworm bookworm-updates\n" in found
    assert "Suites: bookworm-security\n" in found
    assert " abc\n" in found
    assert "Signed-By: /usr/share/keyrings/debian.gpg\n" in found
    assert not any(word in found for word in ("off.example", "deb-src", "backports", "contrib", "comment"))


def test_a_sources_list(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(ONE_LINE)
    assert debian_sources("bookworm", tmp_path) == (
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main\n"
        "Architectures: amd64\nSigned-By: /keys/d.gpg\n"
    )


@pytest.mark.parametrize("text", ["", "deb http://ubuntu.example/ubuntu jammy main\n", ONE_LINE])
def test_a_machine_of_another_release_has_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "sources.list").write_text(text)
    assert debian_sources("trixie", tmp_path) == ""
