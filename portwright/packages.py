"""The package settings this machine's pip already has, for uv and for image builds alike.

uv's own variables win over pip's, and the environment wins over pip's configuration files.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

PIP_OPTIONS = ("index-url", "extra-index-url", "find-links", "cert", "trusted-host")
CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
TORCH_HINT = (
    "the exporter takes PyTorch's CPU build, which PyTorch publishes on its own index: "
    "name that index with PIP_EXTRA_INDEX_URL, or a folder that holds the wheel with PIP_FIND_LINKS"
)
HASH_HINT = (
    "what the package index serves is not what requirements.lock was compiled from: "
    "look for a rebuilt file on a mirror, or compile the lock anew (make lock)"
)
INDEX_HINT = "check the package index (`pip config list`) and the network, then run the same command again"
PYTHON_HINT = (
    "the wheel is for another Python than the toolchain's 3.11: name a base image that has it with "
    "PORTWRIGHT_BASE_IMAGE_<TOOLCHAIN>, and build with --engine=docker"
)
HINTS = (
    (r"no version of torch|torch\S* (was|were) not found", TORCH_HINT),
    (r"(?i)certificate|UnknownIssuer", "name your certificate authority's bundle with PIP_CERT, as pip has it"),
    (
        r"(?i)no wheels with a matching Python",
        PYTHON_HINT,
    ),
    (r"(?i)hash mismatch|hashes? .*did(n't| not) match", HASH_HINT),
    (
        r"(?i)no version of|not found in the package|failed to fetch|sending request|dns error|timed out|connect",
        INDEX_HINT,
    ),
)
_INDEX_NAME = re.compile(r"^[A-Za-z0-9._-]+=")


@dataclass(frozen=True, kw_only=True)
class PackageSettings:
    """Where packages come from. None and empty mean the tools' own defaults."""

    index: str | None = None
    extra_indexes: tuple[str, ...] = ()
    """Addresses or folders; uv's own may be named, `name=address`."""
    find_links: tuple[str, ...] = ()
    """Folders of this machine, or addresses of pages."""
    certificate: Path | None = None
    """The bundle of certificate authorities that this machine trusts."""
    trusted_hosts: tuple[str, ...] = ()

    def uv_environment(self) -> dict[str, str]:
        """The settings as uv reads them."""
        found: dict[str, str] = {}
        if self.index:
            found["UV_DEFAULT_INDEX"] = self.index
        if self.extra_indexes:
            found["UV_INDEX"] = " ".join(self.extra_indexes)
            # pip looks at all indexes alike; the locks' hashes make that safe.
            found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
        if self.find_links:
            found["UV_FIND_LINKS"] = ",".join(self.find_links)
        if self.certificate:
            found["SSL_CERT_FILE"] = str(self.certificate)
        if self.trusted_hosts:
            found["UV_INSECURE_HOST"] = " ".join(self.trusted_hosts)
        return found

    def local_folders(self) -> tuple[Path, ...]:
        """Folders of this machine that packages come from: find-links, and indexes named by a path."""
        indexes = (*self.extra_indexes, *((self.index,) if self.index else ()))
        found = [*map(local_path, self.find_links), *map(index_path, indexes)]
        return tuple(path for path in found if path is not None)


def read_settings(environment: Mapping[str, str] | None = None) -> PackageSettings:
    """What `pip config list` and the environment say. A file index that can't be read is left out."""
    variables = os.environ if environment is None else environment
    pip = pip_options(_pip_config(variables))
    uv_index = variables.get("UV_DEFAULT_INDEX") or variables.get("UV_INDEX_URL")
    uv_extra = variables.get("UV_INDEX") or variables.get("UV_EXTRA_INDEX_URL")
    uv_links = variables.get("UV_FIND_LINKS")
    certificate = next((variables[name] for name in CERTIFICATES if variables.get(name)), pip.get("cert"))
    extra = uv_extra.split() if uv_extra else pip.get("extra-index-url", "").split()
    links = [place.strip() for place in uv_links.split(",")] if uv_links else pip.get("find-links", "").split()
    return PackageSettings(
        index=uv_index or pip.get("index-url"),
        extra_indexes=tuple(place for place in extra if _readable(index_path(place))),
        find_links=tuple(place for place in links if place and _readable(local_path(place))),
        certificate=Path(certificate) if certificate and Path(certificate).is_file() else None,
        trusted_hosts=tuple((variables.get("UV_INSECURE_HOST") or pip.get("trusted-host", "")).split()),
    )


def pip_options(listing: str) -> dict[str, str]:
    """Options by name from `pip config list`; the environment wins over `install`, and that over `global`."""
    ranks = {"global": 0, "install": 1, ":env:": 2}
    found: dict[str, tuple[int, str]] = {}
    for line in listing.splitlines():
        name, _, quoted = line.partition("=")
        section, _, option = name.strip().rpartition(".")
        if section not in ranks or option not in PIP_OPTIONS:
            continue
        value = str(ast.literal_eval(quoted.strip()))
        if option not in found or ranks[section] >= found[option][0]:
            found[option] = (ranks[section], value)
    return {option: value for option, (_, value) in found.items()}


def local_path(place: str) -> Path | None:
    """The folder that a place of packages is, or None for an address."""
    parts = urlsplit(place)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    if parts.scheme and len(parts.scheme) > 1:
        return None
    try:
        return Path(place).expanduser()
    except RuntimeError:  # nobody's home
        return Path(place)


def index_path(place: str) -> Path | None:
    """The folder that an index is, or None for an address. uv lets an index have a name: `name=address`."""
    return local_path(_INDEX_NAME.sub("", place))


def install_hint(output: str) -> str:
    """What to do about an install that failed, from what the installer printed."""
    return next((hint for pattern, hint in HINTS if re.search(pattern, output)), "the log holds the whole output")


def _readable(path: Path | None) -> bool:
    return path is None or os.access(path, os.R_OK)


def _pip_config(variables: Mapping[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        env=dict(variables),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout if done.returncode == 0 else ""
