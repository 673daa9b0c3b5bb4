"""Vendor archives: what only a vendor hands out. The user drops it into `vendor/`; nothing here is ever downloaded."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from portwright.digests import DigestMemory
from portwright.errors import RecipeError
from portwright.target_file import TARGET_FILE, ArchiveSpec, read_target_file


@dataclass(frozen=True)
class PresentArchive:
    """An archive that is there, its digest compared with the one in target.toml."""

    spec: ArchiveSpec
    path: Path

    @property
    def name(self) -> str:
        return self.spec.name

    def identity(self) -> dict[str, object]:
        """What an environment with it in is made of: its content, where that goes, and what it stands for."""
        fields = {"name", "version", "sha256", "kind", "inside", "place", "provides", "replaces"}
        return self.spec.model_dump(mode="json", include=fields)


@dataclass(frozen=True)
class MissingArchive:
    """An archive that isn't there, and the targets that could use it."""

    spec: ArchiveSpec
    targets: tuple[str, ...]
    folder: Path

    def __str__(self) -> str:
        """What to do about it, in one line."""
        spec = self.spec
        return f"{spec.title} {spec.version}: put {spec.file} into {self.folder} ({spec.source}; {spec.licence})"


@dataclass(frozen=True)
class RefusedArchive:
    """A file that is there and can't be taken, with the reason: raised when a target is asked for that would use it."""

    spec: ArchiveSpec
    fault: RecipeError


@dataclass(frozen=True)
class Archives:
    """What of the targets' vendor archives is there, what isn't, and what is there and can't be taken."""

    present: tuple[PresentArchive, ...] = ()
    missing: tuple[MissingArchive, ...] = ()
    refused: tuple[RefusedArchive, ...] = ()

    def refused_for(self, toolchain: str) -> tuple[RecipeError, ...]:
        """What is wrong with those that are there for a toolchain and can't be taken."""
        return tuple(archive.fault for archive in self.refused if archive.spec.toolchain == toolchain)

    def built_into(self, toolchain: str) -> tuple[PresentArchive, ...]:
        """Those that are there for a toolchain, by name."""
        found = [archive for archive in self.present if archive.spec.toolchain == toolchain]
        return tuple(sorted(found, key=lambda archive: archive.name))


def manifest(places: Mapping[PresentArchive, str | Path]) -> bytes:
    """What docker/base/archives.py is told: each archive, and where it finds the file."""
    fields = {"name", "kind", "sha256", "inside", "place", "replaces"}
    entries = [
        {**archive.spec.model_dump(mode="json", include=fields), "file": os.fspath(place)}
        for archive, place in places.items()
    ]
    return json.dumps(entries).encode()


def find_archives(targets: Path, folder: Path, memory: DigestMemory) -> Archives:
    """The archives that `targets/*/target.toml` declare, those in `folder` verified.

    A file that is there with another digest, or that no digest is declared for, is refused: that stops the targets
    that would use it, and no other. RecipeError where two targets name one archive differently.
    """
    present: list[PresentArchive] = []
    missing: list[MissingArchive] = []
    refused: list[RefusedArchive] = []
    for spec, owners in _declared(targets):
        path = folder / spec.file
        if not path.is_file():
            missing.append(MissingArchive(spec, owners, folder))
        elif fault := _fault(spec, path, targets / owners[0] / TARGET_FILE, memory.file(path)):
            refused.append(RefusedArchive(spec, fault))
        else:
            present.append(PresentArchive(spec, path.absolute()))
    return Archives(tuple(present), tuple(missing), tuple(refused))


def _declared(targets: Path) -> list[tuple[ArchiveSpec, tuple[str, ...]]]:
    """Every archive once, with the folders of the targets that declare it."""
    found: dict[tuple[str, str], tuple[ArchiveSpec, tuple[str, ...]]] = {}
    for path in sorted(targets.glob(f"*/{TARGET_FILE}")):
        for spec in read_target_file(path).archives:
            place = (spec.toolchain, spec.name)
            first, owners = found.get(place, (spec, ()))
            if first != spec:
                differing = [name for name in type(spec).model_fields if getattr(spec, name) != getattr(first, name)]
                raise RecipeError(
                    f"target {path}: archives.{spec.name}: differs from the one of target {owners[0]!r}",
                    why=f"both are built into toolchain {spec.toolchain!r}, and {', '.join(differing)} is not the same",
                    hint="let both say the same, or give them different names",
                )
            found[place] = (spec, (*owners, path.parent.name))
    return list(found.values())


def _fault(spec: ArchiveSpec, path: Path, target: Path, digest: str) -> RecipeError | None:
    """What is wrong with a file, if anything."""
    if not spec.sha256:
        return RecipeError(
            f"vendor archive {path} is not pinned",
            why=f"{target} gives no SHA-256 for {spec.name!r}, and what nobody vouches for is never built in",
            hint=f'compare its digest with the vendor\'s and write it there: sha256 = "{digest}"; '
            f"or take the file out of {path.parent}",
        )
    if digest != spec.sha256:
        return RecipeError(
            f"vendor archive {path} is not the one that {target} names",
            why=f"its SHA-256 is {digest}, expected is {spec.sha256} ({spec.title} {spec.version})",
            hint=f"fetch it again ({spec.source}), or take it out of {path.parent}",
        )
    return None
