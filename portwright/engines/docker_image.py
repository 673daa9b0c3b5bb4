"""Toolchain images: one lock each on the shared base, found again by a label, built only where it is missing."""

from __future__ import annotations

import html.parser
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import uv

from portwright.digests import DigestMemory, digest_json
from portwright.engines.base import EventSink
from portwright.engines.buildkit import build_context, build_image
from portwright.engines.docker_api import engine_errors, import_tar
from portwright.engines.docker_base import ensure_base
from portwright.engines.docker_tar import tar_stream
from portwright.packages import PackageSettings, index_path, local_path
from portwright.toolchain import FINISH, INSTALL, UNPACK, Toolchain, normalize
from portwright.vendor import manifest

if TYPE_CHECKING:
    import docker

TOOLCHAIN_LABEL = "portwright.toolchain"
STAND_IN_LABEL = "portwright.base-fallback"
"""Marks an image whose base is not the one that its digest names: no registry answered when it was built."""
ARCHIVES_LABEL = "portwright.archives"
"""Names what of a vendor's own is in an image: whoever passes one on must know."""
WHEELS, UV = "wheels", "uv"
INSIDE = "/tmp"  # noqa: S108 - the builder's own: what it works with is mounted beneath, and is not in the image
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
ARCHIVES = "vendor"
DIGESTS = "digests.json"
MANIFEST = "archives.json"
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def find_image(client: docker.DockerClient, toolchain: Toolchain, *, stand_ins: bool = True) -> str | None:
    """The id of a toolchain's image, by its label; None if it isn't there.

    One that was built on a stand-in for a pinned base is found only if `stand_ins`, and only where no other is.
    """
    with engine_errors(f"look for the image of {toolchain.name}"):
        # Not `images.list`, which asks again for each of them: every stage call comes by here.
        found = client.api.images(filters={"label": image_label(toolchain)})
    usual = usual_images(found)
    chosen = usual or (found if stand_ins else [])
    return str(chosen[0]["Id"]) if chosen else None


def image_label(toolchain: Toolchain) -> str:
    """What a toolchain's image is found again by."""
    return f"{TOOLCHAIN_LABEL}={toolchain.digest('docker')}"


def usual_images(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of a list of images that stand on no stand-in."""
    return [image for image in found if STAND_IN_LABEL not in (image["Labels"] or {})]


def build_toolchain(
    client: docker.DockerClient, toolchain: Toolchain, settings: PackageSettings, folder: Path, on_event: EventSink
) -> None:
    """Build a toolchain's image, its base included; EngineError says what failed. Logs are kept in `folder`."""
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    memory = DigestMemory(folder / DIGESTS)
    base = ensure_base(client, toolchain, logs / "base.log", on_event)
    wheels = _mounted(client, WHEELS, local_wheels(toolchain, settings, memory), memory)
    arguments = {"BASE": base.tag, "UV": str(_mounted(client, UV, [Path(uv.find_uv_bin())], memory))}
    arguments |= {"WHEELS": wheels} if wheels else {}
    memory.save()
    # BuildKit keeps these out of the history and out of the cache's keys.
    arguments |= {name: os.environ[name] for name in PROXIES if name in os.environ}
    digest = toolchain.digest("docker")
    mark = "-fallback" if base.stands_in else ""
    build_image(
        client,
        build_context(_context(toolchain, settings, with_wheels=wheels is not None)),
        tag=f"portwright/{toolchain.name}:{digest[:12]}{mark}",
        labels={
            TOOLCHAIN_LABEL: digest,
            **({STAND_IN_LABEL: base.tag} if base.stands_in else {}),
            **({ARCHIVES_LABEL: _archive_names(toolchain)} if toolchain.archives else {}),
        },
        arguments=arguments,
        log=logs / f"{toolchain.name}-{digest[:12]}.log",
        on_event=on_event,
    )


def _archive_names(toolchain: Toolchain) -> str:
    return ", ".join(f"{archive.name} {archive.spec.version}" for archive in toolchain.archives)


def _context(toolchain: Toolchain, settings: PackageSettings, *, with_wheels: bool) -> dict[str, Path | bytes]:
    files: dict[str, Path | bytes] = {
        "Dockerfile": toolchain.folder / "Dockerfile",
        "requirements.lock": toolchain.lock,
        INSTALL: toolchain.installer,
        **({FINISH: toolchain.finisher} if toolchain.finisher else {}),
        **toolchain.slimmer,
        "settings.env": settings_file(settings, with_wheels=with_wheels).encode(),
    }
    if settings.certificate:
        files["ca.crt"] = settings.certificate
    if toolchain.archives:
        # Mounted like the rest of the context: the image holds what comes out of them, and no layer the archives.
        places = {archive: f"{ARCHIVES}/{archive.spec.file}" for archive in toolchain.archives}
        files |= {place: archive.path for archive, place in places.items()}
        files[MANIFEST] = manifest(places)
        files[UNPACK] = toolchain.unpacker
    return files


def settings_file(settings: PackageSettings, *, with_wheels: bool) -> str:
    """The package settings as the builder's shell reads them; folders of this machine come as an image of wheels."""
    inside = PackageSettings(
        index=settings.index if settings.index and index_path(settings.index) is None else None,
        extra_indexes=tuple(place for place in settings.extra_indexes if index_path(place) is None),
        find_links=(
            *(place for place in settings.find_links if local_path(place) is None),
            *((f"{INSIDE}/local/{WHEELS}",) if with_wheels else ()),
        ),
        certificate=Path(INSIDE, "context", "ca.crt") if settings.certificate else None,
        trusted_hosts=settings.trusted_hosts,
    )
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in inside.uv_environment().items())


def local_wheels(toolchain: Toolchain, settings: PackageSettings, memory: DigestMemory) -> list[Path]:
    """The files in this machine's own package folders that the lock names, by hash."""
    wanted = set(_HASH.findall(toolchain.lock.read_text()))
    names = set(toolchain.locked)
    found: dict[str, Path] = {}
    for folder in settings.local_folders():
        for path in _candidates(folder, names):
            if path.name not in found and memory.file(path) in wanted:
                found[path.name] = path
    return [found[name] for name in sorted(found)]


def _candidates(folder: Path, names: set[str]) -> Iterator[Path]:
    """Files of a flat folder, or of an index laid out by project, that are releases of `names`."""
    if folder.is_file():
        yield from (path for path in [folder] if _project(path) in names)
        return
    for name in sorted(names):
        page = folder / name / "index.html"
        if page.is_file():
            yield from _linked(page)
    yield from (path for path in sorted(folder.glob("*.*")) if path.is_file() and _project(path) in names)


def _project(path: Path) -> str:
    return normalize(path.name.split("-")[0])


class _Links(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _linked(page: Path) -> Iterator[Path]:
    links = _Links()
    links.feed(page.read_text(errors="replace"))
    for link in links.found:
        parts = urlsplit(link)
        path = local_path(link) if parts.scheme else (page.parent / unquote(parts.path)).resolve()
        if path is not None and path.is_file():
            yield path


def _mounted(client: docker.DockerClient, name: str, files: list[Path], memory: DigestMemory) -> str | None:
    """An image that holds nothing but files under a folder, for builds to mount; None if there are none.

    Not a part of the context, which every build sends and unpacks anew.
    """
    if not files:
        return None
    identity = digest_json({path.name: [path.stat().st_size, memory.file(path)] for path in files})
    tag = f"portwright/{name}:{identity[:12]}"
    with engine_errors(f"keep this machine's own {name} for builds"):
        if not client.api.images(name=tag):
            import_tar(client, tar_stream((f"{name}/{path.name}", path.resolve()) for path in files), tag)
        return tag
