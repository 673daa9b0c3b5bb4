"""The base image: taken from a registry by digest where one is named and answers, else bootstrapped from Debian."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from portwright.checked import StrictModel, read_text, validate
from portwright.digests import digest_json
from portwright.engines.base import Event, EventSink
from portwright.engines.docker_api import engine_errors, import_tar
from portwright.engines.docker_apt import apt_proxies, debian_sources
from portwright.engines.docker_tar import BLOCK
from portwright.errors import EngineError, RecipeError, UsageError
from portwright.toolchain import BASE_FILE, Toolchain

if TYPE_CHECKING:
    import docker

REPOSITORY = "portwright/base"
OTHERWISE = "name a base image in a registry with {}=name@sha256:…"
INSTALL_HINT = "apt-get install mmdebstrap, or"
FAILED_HINT = "the log says why; mmdebstrap needs root, or user namespaces (apt-get install uidmap); or"
NO_TRACES = 'rm -rf "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d "$1"/etc/apt/apt.conf.d/99mmdebstrap'
"""A hook: the base must not say which mirror it came from."""
COMPILE = "python3 -m compileall -q -x /test/ --invalidation-mode unchecked-hash"
"""Bytecode without a time in it: the same at every bootstrap."""
UNREACHABLE = (500, 502, 503, 504)
STANDS_IN = "no base from the registry ({}): a bootstrapped one stands in for it, and the next run asks again"
REFUSED = ("unauthorized", "denied", "manifest unknown", "not found", "no space left")


class RegistrySpec(StrictModel):
    """An image that holds what the bootstrap would."""

    image: str = ""
    digest: Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64})?$")] = ""


class BootstrapSpec(StrictModel):
    """What mmdebstrap is told."""

    suite: str
    variant: str
    packages: tuple[str, ...]
    exclude: tuple[str, ...]
    bytecode: tuple[str, ...]
    """Folders whose Python modules are compiled: Debian does so only where the whole of Python is installed."""
    empty: tuple[str, ...]
    """Files that are made where they are missing, with nothing in them."""
    source_date_epoch: int

    @property
    def hooks(self) -> tuple[str, ...]:
        """What is done to the root file system before it is packed."""
        compiled = (f'PYTHONHASHSEED=0 chroot "$1" {COMPILE} {folder}' for folder in self.bytecode)
        return (NO_TRACES, *compiled, *(f': >> "$1"{file}' for file in self.empty))


class BaseSpec(StrictModel):
    """`docker/base/base.toml`, or a toolchain's own."""

    registry: RegistrySpec
    bootstrap: BootstrapSpec


@dataclass(frozen=True)
class Base:
    """A base image's local tag (BuildKit takes no bare id), and whether it stands in for a pinned one."""

    tag: str
    stands_in: bool


@dataclass(frozen=True)
class _Report:
    """Where a bootstrap tells what it does, and what else would give a base."""

    log: Path
    on_event: EventSink
    otherwise: str


def ensure_base(client: docker.DockerClient, toolchain: Toolchain, log: Path, on_event: EventSink) -> Base:
    """The base image of a toolchain, pulled or bootstrapped if the engine hasn't got it."""
    spec = _spec(toolchain.base)
    reference = _reference(spec.registry, toolchain)
    if reference and (pulled := _pull(client, reference, on_event)):
        return Base(pulled, stands_in=False)
    tag = f"{REPOSITORY}:{digest_json(spec.bootstrap.model_dump(mode='json'))[:12]}"
    with engine_errors("look for the base image"):
        there = bool(client.images.list(name=tag))
    if not there:
        otherwise = OTHERWISE.format(toolchain.base_variables[-1])
        _bootstrap(client, spec.bootstrap, tag, _Report(log, on_event, otherwise))
    return Base(tag, stands_in=bool(reference))


def pull_base(client: docker.DockerClient, toolchain: Toolchain, on_event: EventSink) -> bool:
    """Whether the engine has the base that is pinned by digest, or could pull it."""
    reference = _reference(_spec(toolchain.base).registry, toolchain)
    return bool(reference) and _pull(client, reference, on_event) is not None


def _spec(folder: Path) -> BaseSpec:
    path = folder / BASE_FILE
    try:
        value = tomllib.loads(read_text(path, "base"))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"base {path} is not TOML", why=str(error)) from None
    return validate(BaseSpec, value, path, "base")


def _reference(spec: RegistrySpec, toolchain: Toolchain) -> str:
    """`name@sha256:…`, from the environment or base.toml; empty where none is named."""
    chosen = toolchain.base_image
    if chosen and "@sha256:" not in chosen:
        raise UsageError(
            f"the base image {chosen} names no digest",
            why="a tag can change under a build's feet",
            hint="name@sha256:… (docker images --digests shows it)",
        )
    if chosen:
        return chosen
    return f"{spec.image}@{spec.digest}" if spec.image and spec.digest else ""


def _pull(client: docker.DockerClient, reference: str, on_event: EventSink) -> str | None:
    """A local tag of an image by digest: the engine's own, or pulled; None where the registry doesn't answer."""
    import docker

    with engine_errors(f"get the base image {reference}"):
        try:
            image = client.images.get(reference)
        except docker.errors.ImageNotFound:
            image = None
        if image is None:
            on_event(Event(kind="log", text=f"pulling {reference}"))
            try:
                image = client.images.pull(reference)
            except docker.errors.APIError as error:
                on_event(Event(kind="log", text=STANDS_IN.format(_unanswered(reference, error))))
                return None
        version = reference.rpartition(":")[2][:12]
        image.tag(REPOSITORY, version)
    return f"{REPOSITORY}:{version}"


def _unanswered(reference: str, error: docker.errors.APIError) -> str:
    """Why a registry didn't answer; EngineError if it did, and refused."""
    why = str(error.explanation or error)
    if error.status_code not in UNREACHABLE or any(word in why for word in REFUSED):
        hint = "check its name and digest, and `docker login` where it is private"
        raise EngineError(f"the registry gives no base image {reference}", why=why, hint=hint) from None
    return why


def _bootstrap(client: docker.DockerClient, spec: BootstrapSpec, tag: str, report: _Report) -> None:
    if shutil.which("mmdebstrap") is None:
        hint = f"{INSTALL_HINT} {report.otherwise}"
        raise EngineError("can't bootstrap the base image", why="mmdebstrap is not installed", hint=hint)
    _check_architecture(client, report.otherwise)
    report.on_event(Event(kind="log", text=f"bootstrapping Debian {spec.suite}: a minute, once per engine"))
    with tempfile.TemporaryDirectory(prefix="portwright-base-") as name:
        tar, sources = Path(name) / "base.tar", Path(name) / "debian.sources"
        # Unprivileged, mmdebstrap works as another user of its own.
        Path(name).chmod(0o755)
        sources.write_text(debian_sources(spec.suite))
        command = [
            "mmdebstrap",
            f"--variant={spec.variant}",
            f"--include={','.join(spec.packages)}",
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in spec.exclude),
            *(f"--customize-hook={hook}" for hook in spec.hooks),
            spec.suite,
            str(tar),
            # Without a mirror of this machine, mmdebstrap has its own.
            *([str(sources)] if sources.read_text() else []),
        ]
        environment = {**apt_proxies(), **os.environ, "SOURCE_DATE_EPOCH": str(spec.source_date_epoch)}
        with report.log.open("w") as file:
            done = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, check=False
            )
        if done.returncode != 0:
            last = "\n       ".join(report.log.read_text(errors="replace").splitlines()[-6:])
            hint = f"{FAILED_HINT} {report.otherwise}"
            raise EngineError("can't bootstrap the base image", why=last, hint=hint, log=report.log)
        with engine_errors("import the base image"), tar.open("rb") as stream:
            import_tar(client, iter(lambda: stream.read(BLOCK), b""), tag)


def _check_architecture(client: docker.DockerClient, otherwise: str) -> None:
    with engine_errors("say what it is"):
        there = str(client.info()["Architecture"])
    if there != platform.machine():
        raise EngineError(
            "can't bootstrap the base image",
            why=f"the engine runs {there}, and this machine is {platform.machine()}",
            hint=otherwise,
        )
