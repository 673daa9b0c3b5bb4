"""Who owns a container, and who may read and write a folder: a killed run's are removed, a stage sees its inputs."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from portwright.engines.docker_api import engine_errors

if TYPE_CHECKING:
    import docker

OWNER_LABEL = "portwright.owner"
UNPRIVILEGED = 65534
"""What a root caller's containers run as: Debian's nobody."""


def this_owner() -> str:
    """This process, told apart from any other and from itself after a restart of the machine."""
    return f"{_boot_id()}:{os.getpid()}:{_started(os.getpid())}"


def reap(client: docker.DockerClient) -> int:
    """Remove containers whose owner on this machine is dead; how many there were."""
    count = 0
    with engine_errors("look for what killed runs left behind"):
        for container in client.containers.list(all=True, filters={"label": OWNER_LABEL}, ignore_removed=True):
            if _is_dead(container.labels.get(OWNER_LABEL, "")):
                container.remove(force=True)
                count += 1
    return count


def _is_dead(owner: str) -> bool:
    boot, _, rest = owner.partition(":")
    pid, _, started = rest.partition(":")
    # Another machine's containers on a shared engine are not ours to judge.
    if boot != _boot_id() or not pid.isdecimal():
        return False
    return _started(int(pid)) != started


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def _started(pid: int) -> str:
    """A process's start time in clock ticks, empty for one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def container_user(*, rootless: bool) -> tuple[int, int]:
    """uid and gid a stage runs as. In a rootless engine the container's root is the caller itself."""
    if rootless or not hasattr(os, "getuid"):
        return 0, 0
    uid, gid = os.getuid(), os.getgid()
    return (UNPRIVILEGED, UNPRIVILEGED) if uid == 0 else (uid, gid)


def hand_over(folder: Path, owner: tuple[int, int]) -> None:
    """Give a folder and all in it to uid and gid; only a root caller can, and only it needs to."""
    if not hasattr(os, "getuid") or os.getuid() != 0:
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, *owner, follow_symlinks=False)


def readable(path: Path, user: tuple[int, int], spare: Path) -> Path:
    """`path`, or a copy under `spare` if the stage's user could not read it: a root caller's private files, say."""
    if (
        not hasattr(os, "getuid")
        or os.getuid() != 0
        or user[0] == 0
        or all(_open_to_all(part) for part in _parts(path))
    ):
        return path
    if path.is_file():
        shutil.copyfile(path, spare)
    else:
        shutil.copytree(path, spare, copy_function=shutil.copyfile)
    hand_over(spare, user)
    return spare


def _parts(path: Path) -> Iterator[Path]:
    yield path
    if path.is_dir():
        yield from (part for part in path.rglob("*") if not part.is_symlink())


def _open_to_all(path: Path) -> bool:
    mode = path.stat().st_mode
    return bool(mode & stat.S_IROTH) and (not stat.S_ISDIR(mode) or bool(mode & stat.S_IXOTH))
