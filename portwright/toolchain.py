"""A toolchain: a locked environment, declared by the files of `docker/<name>/`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from portwright.digests import digest_file, digest_json
from portwright.errors import RecipeError

BASE = "base"
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

    @property
    def lock(self) -> Path:
        return self.folder / LOCK

    @property
    def base(self) -> Path:
        return self.folder.parent / BASE

    @cached_property
    def packages(self) -> dict[str, str]:
        """Distribution name (normalized) to locked version."""
        return {normalize(name): version for name, version in _PIN.findall(self.lock.read_text())}

    def digest(self, engine: str) -> str:
        """What the environment is made of, from files and the base's pin; the engine's kind is part of it."""
        base = os.environ.get(BASE_VARIABLE, "") if engine == "docker" else ""
        return digest_json({"engine": engine, "files": self._files, "base": base})

    @cached_property
    def _files(self) -> dict[str, str]:
        """Digests of Dockerfile, lock and base, read once: a file edited during a run belongs to the next one."""
        return {
            f"{folder.name}/{path.name}": digest_file(path)
            for folder in (self.folder, self.base)
            for path in sorted(folder.iterdir())
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
