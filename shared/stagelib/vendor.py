"""Vendor archives that were built into this environment: what only the vendor hands out, and may not be here."""

from __future__ import annotations

import sys
from pathlib import Path


def folder(name: str) -> Path | None:
    """The unpacked archive of that name from target.toml, or None where the user dropped in none."""
    path = Path(sys.prefix) / "vendor" / name
    return path if path.is_dir() else None
