"""Writing so that a crash loses nothing, and the operating system's refusals in words."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from portwright.errors import StoreError

STORAGE_HINTS = {
    errno.ENOSPC: "free some space (invoke clean), or set PORTWRIGHT_ARTIFACTS to a larger disk; nothing is lost",
    errno.EDQUOT: "your quota is used up: set PORTWRIGHT_ARTIFACTS to another disk; nothing is lost",
    errno.EACCES: "make it writable for you, or set PORTWRIGHT_ARTIFACTS to another folder",
    errno.EPERM: "make it writable for you, or set PORTWRIGHT_ARTIFACTS to another folder",
    errno.ENOTDIR: "a file stands where a folder must be: set PORTWRIGHT_ARTIFACTS to another place",
    errno.EROFS: "it is on a read-only disk: set PORTWRIGHT_ARTIFACTS to another folder",
}


WRITABLE = 0o644


def write_synced(path: Path, text: str) -> None:
    """Write a file and wait until it is on the disk."""
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    """Wait until a file's content is on the disk. Windows syncs only through a handle that may write."""
    with path.open("r+b" if sys.platform == "win32" else "rb") as file:
        os.fsync(file.fileno())


def remove_tree(path: Path) -> None:
    """Remove a folder and all in it, as far as the system lets us."""
    make_removable(path)
    shutil.rmtree(path, ignore_errors=True)


def make_removable(path: Path) -> None:
    """Windows removes no file that is read-only, and artifacts are: a file, or all in a folder. Elsewhere nothing."""
    if sys.platform == "win32":
        for item in (path, *path.rglob("*")):
            with contextlib.suppress(OSError):
                item.chmod(WRITABLE)


def sync_folder(path: Path) -> None:
    """Wait until a folder's entries are on the disk."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows has no such call, and needs none
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(root: Path) -> None:
    """Wait until the entries of a folder and of every folder in it are on the disk."""
    for path in (*(item for item in root.rglob("*") if item.is_dir()), root):
        sync_folder(path)


@contextlib.contextmanager
def writing(root: Path) -> Iterator[None]:
    """Turn the operating system's refusals into words."""
    try:
        yield
    except OSError as error:
        raise storage_error(root, error) from error


def storage_error(root: Path, error: OSError) -> StoreError:
    """A StoreError that says what to do about a full disk or a forbidden folder."""
    where = error.filename2 or error.filename or root  # of a copy, the second is what was written
    return StoreError(
        f"can't write to {where}", why=error.strerror or str(error), hint=STORAGE_HINTS.get(error.errno or 0, "")
    )


def read_json(path: Path) -> Any:
    """A JSON file of ours, or None where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
