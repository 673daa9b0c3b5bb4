"""Lays an environment out where an image has it: `python lay.py FROM TO SECONDS`, by the system's interpreter.

Each file is written once, into the image's layer. One with two names stays one, links stay links, modes stay, and every
time is SECONDS since 1970: the same environment is the same layer. FROM's files may be the package cache's own by
another name, and stay as they are.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MOST = 1 << 30
"""Bytes that one call sends: the system sends less, and says how many."""


def main(source: str, target: str, seconds: int) -> None:
    time = seconds * 10**9
    folders: list[str] = []
    files: list[tuple[str, str]] = []
    again: list[tuple[str, str]] = []
    first: dict[tuple[int, int], str] = {}
    for path, state in walk(source, Path(source).lstat()):
        place = target + path[len(source) :]
        if stat.S_ISDIR(state.st_mode):
            Path(place).mkdir()
            Path(place).chmod(stat.S_IMODE(state.st_mode))
            folders.append(place)
        elif stat.S_ISLNK(state.st_mode):
            Path(place).symlink_to(Path(path).readlink())
            os.utime(place, ns=(time, time), follow_symlinks=False)
        elif (known := first.setdefault((state.st_dev, state.st_ino), place)) != place:
            again.append((known, place))
        else:
            files.append((path, place))
    # The system works outside of the interpreter's lock, and that is nearly all there is to do.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(lambda pair: copy(*pair, time), files):
            pass
    for known, place in again:
        Path(place).hardlink_to(known)
    for place in folders:
        os.utime(place, ns=(time, time))


def walk(path: str, state: os.stat_result) -> Iterator[tuple[str, os.stat_result]]:
    """A folder and all in it, in a fixed order. As text: objects would be half the cost of thousands of files."""
    yield path, state
    with os.scandir(path) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            yield from walk(entry.path, entry.stat(follow_symlinks=False))
        else:
            yield entry.path, entry.stat(follow_symlinks=False)


def copy(path: str, place: str, time: int) -> None:
    """Write a file's content and mode to a new one, by the system alone."""
    source = os.open(path, os.O_RDONLY)
    try:
        state = os.fstat(source)
        target = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            os.fchmod(target, stat.S_IMODE(state.st_mode))
            sent = 0
            while sent < state.st_size:
                step = os.sendfile(target, source, sent, MOST)
                if not step:
                    raise OSError(f"{path} became shorter while it was copied")
                sent += step
            os.utime(target, ns=(time, time))
        finally:
            os.close(target)
    finally:
        os.close(source)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
