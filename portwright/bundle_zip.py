"""A zip file of known content: the same bytes whenever and wherever it is made, and never half a file."""

from __future__ import annotations

import hashlib
import os
import uuid
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from portwright.digests import BLOCK
from portwright.disk import writing
from portwright.errors import StoreError

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest date that a zip file can hold."""
UNIX = 3
MODE = 0o644 << 16
BIG = 2 << 30


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file: its content, or where it lies, and the digest it must have."""

    sha256: str
    size: int
    path: Path | None = None
    content: bytes = b""

    @classmethod
    def of(cls, content: bytes) -> Entry:
        return cls(sha256=hashlib.sha256(content).hexdigest(), size=len(content), content=content)


def write_zip(out: Path, entries: Mapping[str, Entry]) -> None:
    """Write the entries, sorted by name, uncompressed: compressors differ in their output, and weights don't shrink.

    StoreError where the disk refuses, or a file is not what its entry says.
    """
    with writing(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        fresh = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}")
        try:
            with zipfile.ZipFile(fresh, "x", zipfile.ZIP_STORED) as archive:
                for name in sorted(entries):
                    _add(archive, name, entries[name])
            with fresh.open("r+b") as file:
                os.fsync(file.fileno())
            fresh.replace(out)
        finally:
            fresh.unlink(missing_ok=True)


def _add(archive: zipfile.ZipFile, name: str, entry: Entry) -> None:
    info = zipfile.ZipInfo(name, EPOCH)
    info.create_system, info.external_attr = UNIX, MODE
    digest = hashlib.sha256(entry.content)
    with archive.open(info, "w", force_zip64=entry.size >= BIG) as target:
        target.write(entry.content)
        if entry.path is not None:
            with entry.path.open("rb") as source:
                while block := source.read(BLOCK):
                    digest.update(block)
                    target.write(block)
    if digest.hexdigest() != entry.sha256:
        why = "it is not what its manifest says"
        raise StoreError(f"{entry.path} was changed or damaged", why=why, hint="run the recipe again, then bundle")
