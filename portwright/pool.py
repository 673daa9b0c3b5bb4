"""Identical big files of the store are one file: `blobs/<first two digits>/<sha256>` and hard links to it.

A blob is only another name of what artifacts hold: without it nothing is lost but the next chance to share. Where the
disk has no hard links (or no more for this file) every artifact has its own.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from portwright.digests import BLOCK
from portwright.disk import make_removable, sync_file

FOLDER = "blobs"
SHARED_BYTES = 64 << 10
"""Files from this size on are shared: smaller ones cost less than their name in another folder."""
STAMP_NS = 946_684_800 * 10**9
"""2000-01-01: every blob's modification time. Whoever writes to one changes it, and is found out by it alone."""


class Pool:
    """The blobs under one root. Safe for several processes without a lock: every step is one link, rename or unlink."""

    def __init__(self, root: Path) -> None:
        self._root = root / FOLDER

    def path(self, digest: str) -> Path:
        return self._root / digest[:2] / digest

    def share(self, path: Path, digest: str, size: int) -> None:
        """Make `path` (whose digest and size in bytes are given) one file with its blob, or itself the blob.

        Its content is on the disk when this returns. OSError where it can't be written.
        """
        if self._intact(path, digest, size) and self._take(path, digest):
            return
        sync_file(path)
        os.utime(path, ns=(STAMP_NS, STAMP_NS))
        # No links on this disk, or another user's folder: the file stays the artifact's own.
        with contextlib.suppress(OSError):
            self._give(path, digest)

    def release(self, digest: str) -> int:
        """Remove a blob that no artifact holds any more; the bytes that became free."""
        path = self.path(digest)
        try:
            stat = path.stat()
            if stat.st_nlink > 1:
                return 0
            make_removable(path)
            path.unlink()
        except FileNotFoundError:
            return 0
        return stat.st_size

    def links(self, digest: str) -> int:
        """How many names a blob's file has beside the blob itself; 0 where there is no blob."""
        try:
            return self.path(digest).stat().st_nlink - 1
        except FileNotFoundError:
            return 0

    def orphans(self) -> Iterator[tuple[Path, int]]:
        """Blobs that nothing holds, with their sizes: left by killed runs, or by artifacts removed by hand."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self._root) as shards:
            for shard in shards:
                with os.scandir(shard.path) as entries:
                    # An entry of scandir has no link count on Windows.
                    found = ((entry.path, os.stat(entry.path)) for entry in entries)  # noqa: PTH116 - see Store.made_at
                    yield from ((Path(path), stat.st_size) for path, stat in found if stat.st_nlink == 1)

    def _intact(self, path: Path, digest: str, size: int) -> bool:
        """Whether the blob is there and holds what `path` does, which was just written and digested.

        One that doesn't, though its date says so, gets another date: every artifact that holds it is looked at anew.
        """
        blob = self.path(digest)
        try:
            stat = blob.stat()
            if stat.st_size != size:
                return False
            equal, stamped = _equal(path, blob), stat.st_mtime_ns == STAMP_NS
            if equal and not stamped:
                os.utime(blob, ns=(STAMP_NS, STAMP_NS))
            if stamped and not equal:
                os.utime(blob)
        except OSError:
            return False
        return equal

    def _take(self, path: Path, digest: str) -> bool:
        """Put a link to the blob in the place of `path`; False where none can be had."""
        beside = path.with_name(f".{uuid.uuid4().hex}")
        try:
            os.link(self.path(digest), beside)
        except OSError:  # gone meanwhile, no more links for this file, or not ours to link
            return False
        beside.replace(path)
        return True

    def _give(self, path: Path, digest: str) -> None:
        """Make `path` the blob, in the place of one that is damaged or has no links left."""
        blob = self.path(digest)
        blob.parent.mkdir(parents=True, exist_ok=True)
        beside = blob.with_name(f".{uuid.uuid4().hex}")
        os.link(path, beside)
        try:
            beside.replace(blob)
        finally:
            # A rename onto another name of the same file does nothing, and leaves both.
            beside.unlink(missing_ok=True)


def _equal(first: Path, second: Path) -> bool:
    """Whether two files of one size hold the same bytes."""
    with first.open("rb") as left, second.open("rb") as right:
        while block := left.read(BLOCK):
            if block != right.read(BLOCK):
                return False
    return True
