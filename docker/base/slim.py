"""Leaves out of an image what no stage loads: `python slim.py CACHE RULES…`, by the environment's own interpreter.

RULES are the files that rules.py reads. What is left is compiled, and large files of equal content become one file with
two names. Licences stay wherever they lie, and so does what a wheel says of itself. The standard library only: it must
run in every environment. What the venv engine makes is not touched.

Files are links to the package cache's own: they are removed and given other names, and never written to.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import py_compile
import secrets
import shutil
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path

from rules import RefusedError, Rule, found, read, say

KEPT = ("licen[cs]e*", "copying*", "copyright*", "notice*", "authors*", "*third*part*")
"""Names of files that a licence may ask to be passed on, in any case."""
LARGE = 1 << 16
PAGE = 1 << 12
PAGES_APART = 4
"""In how many pages of 4 KiB two builds of a library may differ: a search path, its entry and a note."""


def main(cache: Path, files: list[str]) -> None:
    top = Path(sysconfig.get_paths()["purelib"])
    rules = [read(Path(name)) for name in files]
    for rule in (rule for kinds in rules for rule in kinds["leave_out"]):
        say("left out", rule, [remove(path) for path in rule.matches(top)])
    for rule in (rule for kinds in rules for rule in kinds["same_library"]):
        say("kept once", rule, list(unite(top, rule)))
    compile_all(top, {path for kinds in rules for rule in kinds["no_bytecode"] for path in rule.matches(top)}, cache)
    for kept, again in link_equal(top):
        print(f"one file with two names: {again.relative_to(top)} is {kept.relative_to(top)}", flush=True)


def remove(path: Path) -> int:
    """Remove a file or a folder, licences apart; how many bytes went."""
    if path.is_symlink() or not path.is_dir():
        return remove_file(path)
    size = sum([remove_file(Path(folder, name)) for folder, _, names in os.walk(path) for name in names])
    for folder, _, _ in os.walk(path, topdown=False):
        if not any(Path(folder).iterdir()):
            Path(folder).rmdir()
    return size


def remove_file(path: Path) -> int:
    """Remove a file unless it is a licence; how many bytes went. One may be gone already, by another rule."""
    if not os.path.lexists(path) or any(fnmatch.fnmatchcase(path.name.lower(), pattern) for pattern in KEPT):
        return 0
    size = path.lstat().st_size
    path.unlink()
    return size


def compile_all(top: Path, bare: set[Path], cache: Path) -> None:
    """Compile what isn't `bare` or under it. A read-only root can't cache bytecode; without it an import is slow."""
    sources = []
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(name for name in folders if Path(folder, name) not in bare)
        paths = (Path(folder, name) for name in sorted(names) if name.endswith(".py"))
        sources += [path for path in paths if path not in bare]
    cache.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        new = sum(pool.map(partial(compile_file, cache), sources, chunksize=64))
    print(f"compiled: {new} of {len(sources)} files, the rest by an earlier build", flush=True)


def compile_file(cache: Path, source: Path) -> bool:
    """Put a source's bytecode beside it, from the cache that builds share if it is there; whether it was not.

    Unchecked hashes keep the files the same at every build. Packages hold templates that are no Python: those may fail.
    """
    compiled = Path(cache_from_source(str(source)))
    kept = cache / hashlib.sha256(b"\0".join((MAGIC_NUMBER, str(source).encode(), source.read_bytes()))).hexdigest()
    new = not kept.is_file()
    if new:
        # Beside it first: another toolchain's build may read it at this moment, or write it. Of two builds at once the
        # processes have the same numbers.
        half = kept.with_name(f"{kept.name}.{secrets.token_hex(4)}")
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        try:
            py_compile.compile(str(source), str(half), doraise=True, invalidation_mode=mode)
        except py_compile.PyCompileError:
            return False
        half.replace(kept)
    compiled.parent.mkdir(exist_ok=True)
    compiled.unlink(missing_ok=True)
    try:
        compiled.hardlink_to(kept)
    except OSError:  # not on the cache's disk
        shutil.copyfile(kept, compiled)
    return new


def link_equal(top: Path) -> list[tuple[Path, Path]]:
    """Make large files of equal content and mode one; the pairs of names, each with the first.

    A wheel that brings a copy of another's library doubles an image. Two names, not a link from one to the other: each
    must find its neighbours in its own folder.
    """
    alike: dict[tuple[int, int], list[Path]] = defaultdict(list)
    for folder, folders, names in os.walk(top):
        folders.sort()
        for path in (Path(folder, name) for name in sorted(names)):
            state = path.lstat()
            if path.is_file() and not path.is_symlink() and state.st_size >= LARGE:
                alike[state.st_size, state.st_mode].append(path)
    pairs = []
    for paths in (paths for paths in alike.values() if len(paths) > 1):
        first: dict[str, Path] = {}
        for path in paths:
            kept = first.setdefault(digest(path), path)
            if kept != path:
                path.unlink()
                path.hardlink_to(kept)
                pairs.append((kept, path))
    return sorted(pairs)


def unite(top: Path, rule: Rule) -> Iterator[int]:
    """Make each library of a rule's later paths the one of the first that is all but equal; bytes saved of each."""
    firsts = found(top, rule.paths[:1])
    for path in found(top, rule.paths[1:]):
        kept = next((first for first in firsts if not path.samefile(first) and nearly_equal(first, path)), None)
        if kept is not None:
            yield path.stat().st_size
            path.unlink()
            path.hardlink_to(kept)


def nearly_equal(one: Path, other: Path) -> bool:
    """Whether two files of one size differ in a few pages at most: another release would in nearly all."""
    if one.stat().st_size != other.stat().st_size:
        return False
    apart = 0
    with one.open("rb") as first, other.open("rb") as second:
        while page := first.read(PAGE):
            apart += page != second.read(PAGE)
            if apart > PAGES_APART:
                return False
    return True


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2:])
    except (RefusedError, OSError) as error:
        sys.exit(f"slim: {error}")
