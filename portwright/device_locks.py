"""What a device without Docker installs: `device/<runtime>/`, one hash lock a platform, or why there is none.

`python -m portwright.device_locks` lists what `scripts/lock.sh` compiles.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from portwright.checked import ModelT, StrictModel, read_text, validate
from portwright.errors import RecipeError, UsageError
from portwright.naming import suggestion
from portwright.project import Project, this_project

PLATFORMS_FILE = "platforms.toml"
RUNTIME_FILE = "runtime.toml"
SOURCE = "requirements.in"
System = Literal["linux", "windows"]


class PlatformSpec(StrictModel):
    """An operating system on a processor."""

    title: str
    system: System
    machines: Annotated[tuple[str, ...], Field(min_length=1, description="platform.machine(), in lower case")]
    uv: Annotated[str, Field(description="--python-platform of uv")]
    labels: Annotated[tuple[str, ...], Field(min_length=1, description="of a CI runner that is one, in lower case")]


class PlatformsFile(StrictModel):
    """`device/platforms.toml`."""

    platforms: dict[str, PlatformSpec]


class RuntimeFile(StrictModel):
    """`device/<runtime>/runtime.toml`. A platform has a lock, or stands in `vendor` or in `absent`."""

    title: str
    serves: Annotated[tuple[str, ...], Field(description="modules of stagelib.runtimes that this environment runs")]
    vendor: Annotated[
        dict[str, str], Field(default_factory=dict, description="platform to who makes the environment, if no lock can")
    ]
    absent: Annotated[
        dict[str, str], Field(default_factory=dict, description="platform to why there is nothing to install on it")
    ]


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What to install on a platform: a lock, or the words that say who makes the environment."""

    runtime: str
    serves: tuple[str, ...]
    lock: Path | None
    vendor: str


@dataclass(frozen=True, kw_only=True)
class DeviceRuntime:
    """`device/<runtime>/`."""

    name: str
    folder: Path
    file: RuntimeFile

    def lock(self, platform: str) -> Path:
        return self.folder / f"{platform}.lock"

    def requirements(self, platform: str) -> Requirements:
        """What to install on a platform; UsageError says why there is nothing."""
        vendor = self.file.vendor.get(platform, "")
        lock = None if vendor else self.lock(platform)
        if platform in self.file.absent or (lock and not lock.is_file()):
            why = self.file.absent.get(platform, f"there is no {lock}; make lock compiles it")
            raise UsageError(f"{self.file.title} can't be had on {platform}", why=why, hint="choose another --platform")
        return Requirements(runtime=self.name, serves=self.file.serves, lock=lock, vendor=vendor)


class DeviceLocks:
    """The platforms, and the runtimes that they can install."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.platforms = _read(PlatformsFile, folder / PLATFORMS_FILE).platforms if folder.is_dir() else {}
        self.runtimes = {path.parent.name: self._runtime(path) for path in sorted(folder.glob(f"*/{RUNTIME_FILE}"))}

    def _runtime(self, path: Path) -> DeviceRuntime:
        file = _read(RuntimeFile, path)
        for name in (*file.vendor, *file.absent):
            if name not in self.platforms:
                raise RecipeError(f"{path}: unknown platform {name!r}", hint=suggestion(name, self.platforms))
        return DeviceRuntime(name=path.parent.name, folder=path.parent, file=file)

    def platform(self, name: str) -> PlatformSpec:
        """The platform of that name; UsageError for an unknown one."""
        if name not in self.platforms:
            raise UsageError(f"unknown platform {name!r}", hint=suggestion(name, self.platforms))
        return self.platforms[name]

    def here(self, system: str, machine: str) -> str | None:
        """The name of a machine's platform, by `platform.system()` and `platform.machine()`; None for any other."""
        for name, spec in self.platforms.items():
            if spec.system == system.lower() and machine.lower() in spec.machines:
                return name
        return None

    def labelled(self, labels: Sequence[str]) -> str | None:
        """The platform that a CI runner's labels name; None where they name none."""
        given = {label.lower() for label in labels}
        return next((name for name, spec in self.platforms.items() if given.issuperset(spec.labels)), None)

    def requirements(self, runtime: str, platform: str) -> Requirements:
        """What a runtime needs installed on a platform; UsageError where nothing can be."""
        self.platform(platform)
        if runtime not in self.runtimes:
            hint = f"add {self._folder / runtime / RUNTIME_FILE} and {SOURCE} beside it, then make lock"
            raise UsageError(f"nothing says what runtime {runtime!r} needs on a device", hint=hint)
        return self.runtimes[runtime].requirements(platform)

    def sources(self) -> Iterator[tuple[Path, Path, str]]:
        """What is compiled: requirements, lock, uv's name of the platform."""
        for runtime in self.runtimes.values():
            for name, spec in self.platforms.items():
                if name not in runtime.file.absent and name not in runtime.file.vendor:
                    yield runtime.folder / SOURCE, runtime.lock(name), spec.uv


def _read(model: type[ModelT], path: Path) -> ModelT:
    try:
        value = tomllib.loads(read_text(path, "file"))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"file {path} is not TOML", why=str(error)) from None
    return validate(model, value, path, "file")


def load_device_locks(project: Project) -> DeviceLocks:
    """The device locks of a checkout."""
    return DeviceLocks(project.device)


def main() -> None:
    """One line a lock: source, lock, platform; paths relative to the checkout."""
    project = this_project()
    for source, lock, platform in load_device_locks(project).sources():
        print(source.relative_to(project.root).as_posix(), lock.relative_to(project.root).as_posix(), platform)


if __name__ == "__main__":
    main()
