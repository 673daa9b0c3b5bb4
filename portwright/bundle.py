"""`invoke bundle`: a run's deployable, a small runner and what to install, for a device without Docker."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from portwright.bundle_files import Packed, collect, last_run
from portwright.bundle_zip import write_zip
from portwright.device_locks import DeviceLocks, Requirements, load_device_locks
from portwright.errors import UsageError
from portwright.locks import Usage
from portwright.naming import user_path
from portwright.project import Project
from portwright.request import Request, load_catalog, resolve
from portwright.stages import StageLibrary
from portwright.target import ALL, Target
from stagelib.runner.contents import CPU, Execution


@dataclass(frozen=True)
class BundleRequest:
    """What a user asked for, as typed. None where an option was left out."""

    recipe: str
    out: str
    target: str | None = None
    model: str | None = None
    platform: str | None = None
    """A name of device/platforms.toml; None for this machine's, `all` for every one that the target can run on."""
    reference: bool = False
    """Whether the fp32 model comes along: then the device measures the ratio and the similarity as the host does."""


@dataclass(frozen=True, kw_only=True)
class Bundled:
    """A bundle that was written."""

    path: Path
    platform: str
    executions: tuple[Execution, ...]
    size: int


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What runs on a platform, and what it needs."""

    executions: tuple[Execution, ...]
    requirements: Requirements


def bundle(project: Project, request: BundleRequest) -> list[Bundled]:
    """Write the bundles asked for. UsageError for what can't be packed, GateError for a run that was rejected."""
    with Usage(project.artifacts).in_use():
        return _bundle(project, request)


def _bundle(project: Project, request: BundleRequest) -> list[Bundled]:
    locks, catalog = load_device_locks(project), load_catalog(project)
    asked = Request(targets=request.target or ALL, recipe=request.recipe, model=request.model)
    if request.recipe == ALL:
        raise UsageError("a bundle is of one recipe", hint="--recipe=NAME, once for each")
    wanted = resolve(project, catalog, asked)[0]
    packed = last_run(project, wanted)
    out = user_path(request.out)
    if request.platform == ALL:
        names = [
            name for name in locks.platforms if _possible(locks, catalog.stage_library, wanted.target, packed, name)
        ]
        if not names:
            raise UsageError(f"no platform can run {wanted.recipe.name!r}", why="see --platform=NAME for each reason")
        return [
            _write(locks, catalog.stage_library, packed, name, out / file_name(wanted.recipe.name, name), request)
            for name in names
        ]
    if out.is_dir():
        raise UsageError(f"--out={out} is a folder", hint=f"--out={out / 'bundle.zip'}, or --platform=all")
    name = request.platform or locks.here(platform.system(), platform.machine())
    if name is None:
        raise UsageError(
            f"this {platform.system()} {platform.machine()} is no platform that bundles are for",
            hint=f"--platform={' or '.join(locks.platforms)}",
        )
    return [_write(locks, catalog.stage_library, packed, name, out, request)]


def file_name(recipe: str, platform_name: str) -> str:
    """The name of a bundle among those of all platforms."""
    return f"{recipe}-{platform_name}.zip"


def choose(locks: DeviceLocks, library: StageLibrary, target: Target, format_: str, platform_name: str) -> Choice:
    """What of a target runs a model on a platform; UsageError with every reason where nothing does.

    Devices come first; what stands in for them comes along where the same environment runs it.
    """
    spec = locks.platform(platform_name)
    candidates = [
        Execution(name=name, title=device.title, runtime=device.runtime, device=device.device)
        for name, device in target.file.devices.items()
        if spec.system in device.systems
    ]
    runtime = target.file.runtime
    stand_in = Execution(name=CPU, title=f"the processor ({runtime.name})", runtime=runtime.name, device=runtime.device)
    reasons = [f"no device of the target is for {spec.system}"] if target.file.devices and not candidates else []
    chosen: Requirements | None = None
    fitting: list[Execution] = []
    for candidate in (*candidates, stand_in):
        if format_ not in library.runtime_formats(candidate.runtime):
            reasons.append(f"{candidate.name}: {candidate.runtime} loads no model in {format_} format")
        elif chosen is None:
            try:
                chosen = locks.requirements(candidate.runtime, platform_name)
                fitting.append(candidate)
            except UsageError as error:
                reasons.append(f"{candidate.name}: {error.message} ({error.why or error.hint})")
        elif candidate.runtime in chosen.serves:
            fitting.append(candidate)
    if chosen is None:
        raise UsageError(f"nothing of target {target.name!r} runs this on {platform_name}", why="; ".join(reasons))
    return Choice(executions=tuple(fitting), requirements=chosen)


def _possible(locks: DeviceLocks, library: StageLibrary, target: Target, packed: Packed, name: str) -> bool:
    try:
        choose(locks, library, target, packed.format, name)
    except UsageError:
        return False
    return True


def _write(
    locks: DeviceLocks, library: StageLibrary, packed: Packed, name: str, out: Path, request: BundleRequest
) -> Bundled:
    choice = choose(locks, library, packed.wanted.target, packed.format, name)
    entries = collect(
        packed,
        library,
        platform=(name, locks.platform(name)),
        executions=choice.executions,
        requirements=choice.requirements,
        reference=request.reference,
    )
    write_zip(out, entries)
    return Bundled(path=out, platform=name, executions=choice.executions, size=out.stat().st_size)


def text(project: Project, bundles: Sequence[Bundled]) -> str:
    """What `invoke bundle` prints."""
    return "\n".join(
        f"{project.show(item.path)}: {item.platform}, {item.size / 1e6:.1f} MB, "
        f"runs on {', '.join(execution.name for execution in item.executions)}"
        for item in bundles
    )
