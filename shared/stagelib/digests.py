"""SHA-256 of files, in hexadecimal."""

from __future__ import annotations

import hashlib
from pathlib import Path

BLOCK = 1 << 20


def digest_files(*paths: Path) -> str:
    """Over the files' bytes, one after the other; of one file, its digest."""
    state = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                state.update(block)
    return state.hexdigest()
