"""A toolchain: a locked environment, declared by the files of `docker/<name>/`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from portwright.digests import digest_file, digest_json
from portwright.errors import RecipeError
from portwright.target_file import ArchiveSpec

BASE = "base"
BASE_FILE = "base.toml"
INSTALL = "install.sh"
BASE_VARIABLE = "PORTWRIGHT_BASE_IMAGE"
"""A base image in a registry, by digest, in place of the one that base.toml says. Only images have a base."""
LOCK = "requirements.lock"
DOCKERFILE = "Dockerfile"
NOT_BUILT_FROM = (".in", ".md")
"""What a lock is compiled from is not what an environment is made of."""
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)


@dataclass(frozen=True)
class Toolchain:
    """`docker/<name>/`: Dockerfile, requirements.in and requirements.lock, on the shared base of `docker/base/`."""

    name: str
    folder: Path
    archives: tuple[ArchiveSpec, ...] = ()
    """Vendor archives that are built into it: those that are there."""

    @property
    def lock(self) -> Path:
        return self.folder / LOCK

    @property
    def base(self) -> Path:
        """The folder of the base.toml that says what the image stands on: its own, or the one that all others share."""
        return self.folder if (self.folder / BASE_FILE).is_file() else self._shared

    @property
    def installer(self) -> Path:
        """What installs the lock, the same for every toolchain."""
        return self._shared / INSTALL

    @property
    def base_variable(self) -> str:
        """The variable that names a base image for this toolchain alone."""
        return f"{BASE_VARIABLE}_{self.name.upper().replace('-', '_')}"

    @property
    def base_image(self) -> str:
        """The base image that the environment names in place of base.toml's; empty where it names none.

        The variable without a toolchain's name stands for the base that all share, and says nothing of another one.
        """
        shared = os.environ.get(BASE_VARIABLE, "") if self.base == self._shared else ""
        return os.environ.get(self.base_variable, "") or shared

    @property
    def _shared(self) -> Path:
        return self.folder.parent / BASE

    @cached_property
    def packages(self) -> dict[str, str]:
        """Distribution name (normalized) to locked version."""
        return {normalize(name): version for name, version in _PIN.findall(self.lock.read_text())}

    def digest(self, engine: str) -> str:
        """What the environment is made of, from files and the base's pin; the engine's kind is part of it."""
        base = self.base_image if engine == "docker" else ""
        return digest_json({"engine": engine, "files": self._files, "base": base})

    @cached_property
    def _files(self) -> dict[str, str]:
        """Digests of Dockerfile, lock and base, read once: a file edited during a run belongs to the next one."""
        shared = sorted(self._shared.iterdir())
        if self.base != self._shared:
            shared = [path for path in shared if path.name != BASE_FILE]
        return {
            f"{path.parent.name}/{path.name}": digest_file(path)
            for path in (*sorted(self.folder.iterdir()), *shared)
            if path.is_file() and path.suffix not in NOT_BUILT_FROM
        }

    def can_run(self, needs: tuple[str, ...]) -> bool:
        """Whether the lock holds every distribution of `needs`."""
        return all(normalize(name) in self.packages for name in needs)


def normalize(name: str) -> str:
    """A distribution's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def load_toolchains(folder: Path) -> dict[str, Toolchain]:
    """Every toolchain under `docker/`: a folder with a Dockerfile, the base apart."""
    found = {
        path.parent.name: Toolchain(path.parent.name, path.parent)
        for path in sorted(folder.glob(f"*/{DOCKERFILE}"))
        if path.parent.name != BASE
    }
    for toolchain in found.values():
        if not toolchain.lock.is_file():
            raise RecipeError(
                f"toolchain {toolchain.name!r} has no {LOCK}",
                why=f"{toolchain.lock} is missing",
                hint=f"make lock  (compiles docker/{toolchain.name}/requirements.in)",
            )
    return found
