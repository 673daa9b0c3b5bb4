"""Digests of JSON, files and folders: full SHA-256, in hexadecimal."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

BLOCK = 1 << 20
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no white space, no NaN: equal values have equal texts."""
    return _CANONICAL.encode(value)


def digest_json(value: Any) -> str:
    """SHA-256 of canonical JSON."""
    return digest_text(canonical_json(value))


def digest_text(text: str) -> str:
    """SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


class DigestMemory:
    """Remembers file digests by path, size and modification time, so that a no-op reads no model twice.

    The memory is a cache: a missing or damaged file is an empty one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[Any]] = {}
        self._changed = False
        try:
            loaded = json.loads(path.read_text())
        except (OSError, ValueError):
            loaded = {}
        if isinstance(loaded, dict):
            self._known = loaded

    def file(self, path: Path) -> str:
        """Digest of a file, from memory where size and modification time are unchanged."""
        stat = path.stat()
        name, stamp = str(path.absolute()), [stat.st_size, stat.st_mtime_ns]
        remembered = self._known.get(name)
        if isinstance(remembered, list) and len(remembered) == 3 and remembered[:2] == stamp:  # noqa: PLR2004
            return str(remembered[2])
        digest = digest_file(path)
        self._known[name] = [*stamp, digest]
        self._changed = True
        return digest

    def save(self) -> None:
        """Write the memory back, atomically; failing to is no error."""
        if not self._changed:
            return
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(self._known))
            temporary.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
        self._changed = False
