"""Who owns a container, and who may read and write a folder: a killed run's are removed, a stage sees its inputs."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from portwright.engines.docker_api import engine_errors

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container
    from docker.models.volumes import Volume

OWNER_LABEL = "portwright.owner"
DEADLINE_LABEL = "portwright.deadline"
UNPRIVILEGED = 65534
"""What a root caller's containers run as: Debian's nobody."""
MARGIN_S = 600.0
UNKNOWN = "unknown"
"""In the place of a machine that can't be told from others."""


def labels(seconds: float) -> dict[str, str]:
    """What marks a thing of this process on an engine, to be gone after `seconds` at the latest."""
    return {OWNER_LABEL: this_owner(), DEADLINE_LABEL: f"{time.time() + seconds + MARGIN_S:.0f}"}


def this_owner() -> str:
    """This process, told apart from any other and from itself after a restart of the machine."""
    return f"{_machine()}:{os.getpid()}:{_started(os.getpid())}"


def reap(client: docker.DockerClient) -> int:
    """Remove containers and volumes whose owner is dead, or that outlived their deadline; how many there were."""
    count = 0
    with engine_errors("look for what killed runs left behind"):
        found: list[Container | Volume] = [
            container
            for container in client.containers.list(all=True, filters={"label": OWNER_LABEL}, ignore_removed=True)
            if is_dead(container.labels)
        ]
        found += [
            volume
            for volume in client.volumes.list(filters={"label": OWNER_LABEL})
            if is_dead(volume.attrs.get("Labels") or {})
        ]
        for left in found:
            count += _removed(left)
    return count


def _removed(left: Container | Volume) -> bool:
    """Remove a thing; False where another run is faster: it is gone (404), or going or in use (409)."""
    import docker

    try:
        left.remove(force=True)
    except docker.errors.APIError as error:
        if error.status_code not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
            raise
        return False
    return True


def is_dead(marks: dict[str, str]) -> bool:
    """Whether nobody waits for a thing with these labels any more."""
    machine, _, rest = marks.get(OWNER_LABEL, "").partition(":")
    pid, _, started = rest.partition(":")
    if machine == _machine() != UNKNOWN and pid.isdecimal():
        return _started(int(pid)) != started
    # Another machine's things on a shared engine are not ours to judge before their time is up; nor are any where a
    # machine and its processes can't be told from others, as off Linux.
    deadline = marks.get(DEADLINE_LABEL, "")
    return deadline.isdecimal() and time.time() > int(deadline)


def _machine() -> str:
    """This start of this machine, and this process-id namespace of it: elsewhere the same number is someone else."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}".replace(":", "")
    except OSError:
        return UNKNOWN


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
    """`path`, or a copy at `spare` if the stage's user could not read it: a root caller's private files, say."""
    if may_read(path, user):
        return path
    for part in (path, *path.rglob("*")):
        copy = spare / part.relative_to(path)
        if part.is_dir():
            copy.mkdir(mode=0o700)
        else:
            shutil.copyfile(part, copy)  # shutil.copytree's error would not say that the disk is full
            copy.chmod(0o400)
    hand_over(spare, user)
    return spare


def may_read(path: Path, user: tuple[int, int], *, deep: bool = True) -> bool:
    """Whether uid and gid may read a file, or a folder and (if `deep`) all in it. 0 is a rootless engine's caller."""
    if user[0] == 0:
        return True
    return all(_open_to(part, user) for part in (_parts(path) if deep else [path]))


def _parts(path: Path) -> Iterator[Path]:
    yield path
    if path.is_dir():
        yield from (part for part in path.rglob("*") if not part.is_symlink())


def _open_to(path: Path, user: tuple[int, int]) -> bool:
    found = path.stat()
    # Owner, group and others: the first that fits decides alone.
    shift = 6 if found.st_uid == user[0] else 3 if found.st_gid == user[1] else 0
    needed = 0o5 if stat.S_ISDIR(found.st_mode) else 0o4
    return (found.st_mode >> shift) & needed == needed
