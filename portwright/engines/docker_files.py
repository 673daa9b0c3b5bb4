"""How a container and this host pass files to each other: by bind mounts, or by copies if the engine is elsewhere."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from portwright.engines.base import Event, EventSink, Job
from portwright.engines.call import CallPaths, write_call
from portwright.engines.docker_owner import hand_over, labels, may_read, readable
from portwright.engines.docker_tar import extract, tar_stream, tree
from portwright.naming import slug

if TYPE_CHECKING:
    import docker
    from docker.models.volumes import Volume
    from docker.types import Mount

TOKEN = "token"  # noqa: S105 - the name of the hub's file, not a secret
HUB_LINES = "the hub cache {} can't be read by the stage's user and is not offered to it"
_NEVER_STARTED = ["true"]


@dataclass(frozen=True)
class Desk:
    """This host's folders of one call: what goes in and comes back beside the output."""

    folder: Path

    @property
    def call(self) -> Path:
        return self.folder / "call"

    @property
    def scratch(self) -> Path:
        return self.folder / "scratch"

    @property
    def fills(self) -> Path:
        return self.folder / "hub"

    @property
    def spare(self) -> Path:
        """Copies of what the stage's user could not read in its place."""
        return self.folder / "readable"

    @classmethod
    def make(cls, folder: Path) -> Desk:
        desk = cls(folder)
        for path in (desk.call, desk.scratch, desk.fills, desk.spare):
            path.mkdir()
            path.chmod(0o755)
        folder.chmod(0o755)
        return desk


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """What a container needs to be told: mounts, and where things lie inside."""

    mounts: list[Mount]
    paths: CallPaths
    call: str
    stage_library: str
    certificate: str | None


def shares_files(client: docker.DockerClient, image: str, folder: Path) -> bool:
    """Whether the engine sees this host's files: a new one must come back through a bind mount with its content.

    An address proves nothing: a local socket may lead to another machine, and tcp to this one.
    """
    import docker
    from docker.types import Mount

    nonce = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="probe-", dir=folder) as name:
        (Path(name) / "nonce").write_text(nonce)
        container = None
        try:
            mount = Mount(target="/probe", source=str(Path(name).resolve()), type="bind", read_only=True)
            container = client.containers.create(
                image, _NEVER_STARTED, mounts=[mount], labels=labels(60.0), network_mode="none"
            )
            blocks, _ = container.get_archive("/probe/nonce")
            return nonce.encode() in b"".join(blocks)
        except docker.errors.APIError:
            # Whatever it has against the mount, copying works without.
            return False
        finally:
            if container is not None:
                container.remove(force=True)


@contextlib.contextmanager
def bound(
    job: Job, desk: Desk, library: Path, certificate: Path | None, user: tuple[int, int], on_event: EventSink
) -> Iterator[Exchange]:
    """Bind mounts. The writable folders are the stage's user's meanwhile, and the caller's again afterwards."""
    from docker.types import Mount

    def given(target: str, source: Path) -> Mount:
        seen = readable(source, user, desk.spare / slug(target))
        return Mount(target=target, source=str(seen.resolve()), type="bind", read_only=True)

    inputs = _places(job, "/in")
    mounts = [given("/stagelib", library), *(given(inputs[role], path) for role, path in job.inputs.items())]
    cache = _cache_mounts(job, desk, user, on_event)
    inside = "/run/certificates.crt" if certificate and job.network else None
    if certificate and inside:
        mounts.append(given(inside, certificate))
    writable = {"/out": job.output, "/call": desk.call, "/scratch": desk.scratch, "/hub": desk.fills}
    mounts += [Mount(target=target, source=str(path.resolve()), type="bind") for target, path in writable.items()]
    paths = CallPaths(
        inputs=inputs,
        output="/out",
        scratch="/scratch",
        result="/call/result.json",
        cache="/cache" if cache else None,
        fills="/hub" if job.network else None,
    )
    write_call(job, desk.call, paths)
    try:
        for path in writable.values():
            hand_over(path, user)
        yield Exchange(
            mounts=[*mounts, *cache], paths=paths, call="/call", stage_library="/stagelib", certificate=inside
        )
    finally:
        mine = (os.getuid(), os.getgid()) if hasattr(os, "getuid") else (0, 0)
        for path in writable.values():
            hand_over(path, mine)


def _cache_mounts(job: Job, desk: Desk, user: tuple[int, int], on_event: EventSink) -> list[Mount]:
    """The caller's HF_HOME, never copied. Its token is private by design: one that must be copied lies over it."""
    from docker.types import Mount

    home = job.hub_cache
    if not job.network or home is None or not home.is_dir():
        return []
    if not may_read(home, user, deep=False) or ((home / "hub").is_dir() and not may_read(home / "hub", user)):
        on_event(Event(kind="log", text=HUB_LINES.format(home)))
        return []
    mounts = [Mount(target="/cache", source=str(home.resolve()), type="bind", read_only=True)]
    token = home / TOKEN
    if token.is_file() and not may_read(token, user):
        copy = readable(token, user, desk.spare / TOKEN)
        mounts.append(Mount(target=f"/cache/{TOKEN}", source=str(copy.resolve()), type="bind", read_only=True))
    return mounts


@contextlib.contextmanager
def copied(
    client: docker.DockerClient,
    image: str,
    job: Job,
    desk: Desk,
    library: Path,
    certificate: Path | None,
    user: tuple[int, int],
) -> Iterator[Exchange]:
    """Two volumes of the engine, one read-only: filled before, fetched after, through a container that never starts."""
    from docker.types import Mount

    tags = labels(job.deadline_s)
    with contextlib.ExitStack() as stack:
        volumes = {name: _volume(client, tags, stack) for name in ("/given", "/made")}
        mounts = [Mount(target=target, source=volume.name, type="volume") for target, volume in volumes.items()]
        loader = client.containers.create(image, _NEVER_STARTED, mounts=mounts, labels=tags, network_mode="none")
        stack.callback(loader.remove, force=True)
        paths = CallPaths(
            inputs=_places(job, "/given/in"),
            output="/made/out",
            scratch="/made/scratch",
            result="/made/call/result.json",
            fills="/made/hub" if job.network else None,
        )
        write_call(job, desk.call, paths)
        loader.put_archive("/given", tar_stream(_given(job, desk, library, certificate, paths), user, times=True))
        empty = desk.scratch
        made = ((name, empty) for name in ("out", "scratch", "call", "hub"))
        loader.put_archive("/made", tar_stream(made, user))
        yield Exchange(
            mounts=[
                Mount(target="/given", source=volumes["/given"].name, type="volume", read_only=True),
                Mount(target="/made", source=volumes["/made"].name, type="volume"),
            ],
            paths=paths,
            call="/given/call",
            stage_library="/given/stagelib",
            certificate="/given/certificates.crt" if certificate and job.network else None,
        )
        for place, folder in (("out", job.output), ("call", desk.call), ("hub", desk.fills)):
            blocks, _ = loader.get_archive(f"/made/{place}", chunk_size=1 << 20)
            extract(blocks, folder)


def _volume(client: docker.DockerClient, tags: dict[str, str], stack: contextlib.ExitStack) -> Volume:
    """A new volume, which goes when the stack is left."""
    volume = client.volumes.create(name=f"portwright-{secrets.token_hex(8)}", labels=tags)
    stack.callback(volume.remove, force=True)
    return volume


def _places(job: Job, top: str) -> dict[str, str]:
    """Where each input lies. A file keeps its name: messages about it are the user's to read."""
    return {
        role: f"{top}/{role}/{path.name}" if path.is_file() else f"{top}/{role}" for role, path in job.inputs.items()
    }


def _given(
    job: Job, desk: Desk, library: Path, certificate: Path | None, paths: CallPaths
) -> Iterator[tuple[str, Path]]:
    yield from tree("stagelib", library)
    yield from tree("call", desk.call)
    yield "in", desk.scratch
    for role, path in job.inputs.items():
        if path.is_file():
            yield f"in/{role}", desk.scratch
        yield from tree(paths.inputs[role].removeprefix("/given/"), path)
    if certificate and job.network:
        yield "certificates.crt", certificate.resolve()
