"""A toolchain: a locked environment, declared by the files of `docker/<name>/`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from portwright.digests import digest_file, digest_json
from portwright.errors import RecipeError
from portwright.vendor import Archives, PresentArchive

BASE = "base"
BASE_FILE = "base.toml"
INSTALL = "install.sh"
UNPACK = "archives.py"
FINISH = "finish.sh"
SLIM = ("lay.py", "rules.py", "slim.py", "symbols.py")
SLIM_RULES = "slim.toml"
BASE_VARIABLE = "PORTWRIGHT_BASE_IMAGE"
"""A base image in a registry, by digest, in place of the one that base.toml says; with `_ORT` behind it, for the
toolchain `ort` alone. Only images have a base."""
LOCK = "requirements.lock"
SOURCE = "requirements.in"
DOCKERFILE = "Dockerfile"
OTHER_BUILDS = {"onnxruntime-directml": "onnxruntime", "onnxruntime-gpu": "onnxruntime"}
"""Distributions that are another one, built otherwise: they install its modules, and serve whatever needs it."""
NOT_BUILT_FROM = (".in", ".md")
"""What a lock is compiled from is not what an environment is made of."""
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)


@dataclass(frozen=True)
class Toolchain:
    """`docker/<name>/`: Dockerfile, requirements.in and requirements.lock, on the shared base of `docker/base/`."""

    name: str
    folder: Path
    archives: tuple[PresentArchive, ...] = ()
    """Vendor archives that are built into it: those that are there."""
    faults: tuple[RecipeError, ...] = ()
    """What is wrong with archives that are there and can't be taken: a target that uses it raises them."""

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
    def unpacker(self) -> Path:
        """What builds vendor archives in, the same for every toolchain and engine."""
        return self._shared / UNPACK

    @property
    def finisher(self) -> Path | None:
        """What its image has done to it when the lock is installed; None for most."""
        own = self.folder / FINISH
        return own if own.is_file() else None

    @property
    def slimmer(self) -> dict[str, Path]:
        """What lays its image out without what no stage loads, by place in a build's context: programs and rules, the
        shared ones and its own."""
        own = self.folder / SLIM_RULES
        rules = {"slim/1-base.toml": self._shared / SLIM_RULES, **({"slim/2-own.toml": own} if own.is_file() else {})}
        return {**{name: self._shared / name for name in SLIM}, **rules}

    @property
    def base_variables(self) -> tuple[str, ...]:
        """The variables that may name a base image for it, the stronger first.

        The one without a toolchain's name stands for the base that all share, and says nothing of another one.
        """
        own = f"{BASE_VARIABLE}_{self.name.upper().replace('-', '_')}"
        return (own, BASE_VARIABLE) if self.base == self._shared else (own,)

    @property
    def base_image(self) -> str:
        """The base image that the environment names in place of base.toml's; empty where it names none."""
        return next((os.environ[name] for name in self.base_variables if os.environ.get(name)), "")

    @property
    def _shared(self) -> Path:
        return self.folder.parent / BASE

    @cached_property
    def locked(self) -> dict[str, str]:
        """Distribution name (normalized) to locked version."""
        return {normalize(name): version for name, version in _PIN.findall(self.lock.read_text())}

    @cached_property
    def packages(self) -> dict[str, str]:
        """What the environment holds: the lock's distributions and what they are builds of, less what archives replace,
        and what archives provide.
        """
        replaced = {normalize(name) for archive in self.archives for name in archive.spec.replaces}
        provided = {
            normalize(name): archive.spec.version for archive in self.archives for name in archive.spec.provides
        }
        kept = {name: version for name, version in self.locked.items() if name not in replaced}
        built = {OTHER_BUILDS[name]: version for name, version in kept.items() if name in OTHER_BUILDS}
        return kept | built | provided

    def digest(self, engine: str) -> str:
        """What the environment is made of, from files and the base's pin; the engine's kind is part of it."""
        base = self.base_image if engine == "docker" else ""
        archives = [archive.identity() for archive in self.archives]
        made_of = {"engine": engine, "files": self._files, "base": base}
        return digest_json({**made_of, "archives": archives} if archives else made_of)

    def read_again(self) -> Toolchain:
        """The same toolchain, its files not read yet: a digest that differs tells of an edit."""
        return Toolchain(self.name, self.folder, self.archives, self.faults)

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

    @property
    def has_image(self) -> bool:
        """Whether containers can have it: one whose vendor serves Windows alone has no Dockerfile, and the venv engine
        makes it there."""
        return (self.folder / DOCKERFILE).is_file()

    def can_run(self, needs: tuple[str, ...]) -> bool:
        """Whether the environment holds every distribution of `needs`."""
        return all(normalize(name) in self.packages for name in needs)


def normalize(name: str) -> str:
    """A distribution's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def load_toolchains(folder: Path, archives: Archives | None = None) -> dict[str, Toolchain]:
    """Every toolchain under `docker/`, with its vendor archives: a folder with a Dockerfile or with what a lock is
    compiled from, the base apart."""
    there = archives or Archives()
    folders = {path.parent for name in (DOCKERFILE, SOURCE) for path in folder.glob(f"*/{name}")}
    found = {
        path.name: Toolchain(path.name, path, there.built_into(path.name), there.refused_for(path.name))
        for path in sorted(folders)
        if path.name != BASE
    }
    for toolchain in found.values():
        if not toolchain.lock.is_file():
            raise RecipeError(
                f"toolchain {toolchain.name!r} has no {LOCK}",
                why=f"{toolchain.lock} is missing",
                hint=f"make lock  (compiles docker/{toolchain.name}/requirements.in)",
            )
    return found
