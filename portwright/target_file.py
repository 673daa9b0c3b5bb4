"""`target.toml`: what a target says of its hardware, its toolchains and its vendor's archives. Data only."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from portwright.checked import StrictModel, read_text, validate
from portwright.errors import RecipeError
from portwright.published import PublishedFigures

TARGET_FILE = "target.toml"
Sha256 = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]


def _inner(path: str) -> str:
    if path and (path.startswith("/") or "\\" in path or not {"", ".", ".."}.isdisjoint(path.split("/"))):
        raise ValueError("is no folder inside another: a relative path without . and .. is wanted")
    return path


Inner = Annotated[str, AfterValidator(_inner)]
"""A folder inside another, as a relative path; empty for the other one itself."""


class RuntimeSpec(StrictModel):
    """What executes: a module of stagelib.runtimes, and the device it is asked for, in the runtime's own words."""

    name: str
    device: str


class EmulatorSpec(StrictModel):
    """What executes the compiled model in software, slowly: held against the model it was compiled from."""

    name: str
    device: str
    samples: Annotated[int, Field(ge=1, description="texts to run at the most")] = 4
    budget_s: Annotated[float, Field(gt=0, description="no further text is begun after this many CPU seconds")] = 90.0


class NodeSpec(StrictModel):
    """Device nodes: a pattern under /dev, and the kernel driver that must stand behind one. Never a number."""

    path: Annotated[str, Field(pattern=r"^/dev/")]
    driver: Annotated[str, Field(description="name of the kernel's driver; empty for any")] = ""
    optional: Annotated[bool, Field(description="passed where it is there, and not missed while another is")] = False


class DeviceSpec(StrictModel):
    """A device that `--device=NAME` asks for: how it is found, passed into a container, and what serves it."""

    title: str
    runtime: Annotated[str, Field(description="module of stagelib.runtimes that executes on it")]
    device: Annotated[str, Field(description="the runtime's own name of the device")]
    toolchains: Annotated[
        tuple[str, ...], Field(description="asked first for what runs on the device, before the target's own")
    ] = ()
    systems: Annotated[
        tuple[Literal["linux", "windows"], ...], Field(min_length=1, description="where the device can be used")
    ] = ("linux",)
    nodes: tuple[NodeSpec, ...] = ()
    gpus: Annotated[
        Literal["nvidia"] | None, Field(description="a device request of the engine, or CDI where it has that")
    ] = None
    mounts: Annotated[
        tuple[Annotated[str, Field(pattern=r"^/")], ...],
        Field(description="patterns of the host's files and folders with the driver's user-space half, read-only"),
    ] = ()
    environment: Annotated[
        tuple[str, ...], Field(description="variables of the caller that the driver or its runtime reads")
    ] = ()
    locked_memory: Annotated[bool, Field(description="the driver pins pages: no limit on locked memory")] = False
    install: Annotated[str, Field(min_length=1, description="what to install where it isn't found")]
    runs_on: Annotated[tuple[str, ...], Field(description="labels of the CI runner that has one")] = ()
    timeout_minutes: Annotated[int, Field(ge=1, le=360, description="of the CI job on the device")] = 60


class ArchiveSpec(StrictModel):
    """A file that only the vendor hands out: dropped into `vendor/` by the user, never downloaded."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    title: str
    version: str
    file: Annotated[str, Field(pattern=r"^[^/\\]+$", description="file name under vendor/")]
    sha256: Annotated[Sha256, Field(description="empty: not pinned yet, and then the file is refused with its digest")]
    licence: Annotated[str, Field(min_length=1, description="what its licence asks, in a sentence")]
    source: Annotated[str, Field(min_length=1, description="where the vendor hands it out, in words")]
    toolchain: Annotated[str, Field(description="the toolchain it is built into")]
    kind: Literal["wheel", "tar", "zip"]
    inside: Annotated[Inner, Field(description="the archive's folder whose content is wanted; empty: all of it")] = ""
    place: Annotated[
        Inner, Field(description="folder inside the environment's packages to unpack into; empty: vendor/<name>")
    ] = ""
    provides: Annotated[tuple[str, ...], Field(description="distributions that stages may need")] = ()
    replaces: Annotated[tuple[str, ...], Field(description="locked distributions that must give way")] = ()
    gives: Annotated[str, Field(min_length=1, description="what can't be built without it")]

    @model_validator(mode="after")
    def _fits(self) -> ArchiveSpec:
        if (self.kind == "wheel") != self.file.endswith(".whl"):
            raise ValueError(f"file: {self.file!r} is no name of a {self.kind}")
        if self.kind == "wheel" and (self.inside or self.place):
            raise ValueError("a wheel says itself where its files go: leave out inside and place")
        return self


class PlacementRules(StrictModel):
    """Names by which placements are reported for the target, and whether a recipe may ask for less than all of it."""

    on: Annotated[
        tuple[str, ...], Field(min_length=1, description="as the device, its compiler or its emulator are called")
    ]
    stand_in: Annotated[tuple[str, ...], Field(description="as what executes in its place is called")] = ()
    strict: Annotated[bool, Field(description="all of the graph, whatever a recipe says")] = False


class TargetFile(StrictModel):
    """`target.toml`."""

    name: str
    title: Annotated[str, Field(description="the hardware, as a person calls it")]
    note: Annotated[str, Field(description="what a reader must know before trusting it")] = ""
    toolchains: Annotated[
        tuple[str, ...],
        Field(min_length=1, description="folders of docker/; a stage runs in the first that holds all it needs"),
    ]
    default_recipe: Annotated[str, Field(description="the recipe that runs when none is named")]
    runtime: Annotated[RuntimeSpec, Field(description="what executes in the device's place where none is asked for")]
    placement: PlacementRules | None = None
    emulator: EmulatorSpec | None = None
    devices: Annotated[
        dict[str, DeviceSpec], Field(default_factory=dict, description="by the name that --device takes: npu, gpu")
    ]
    archives: tuple[ArchiveSpec, ...] = ()
    published: Annotated[
        PublishedFigures | None, Field(description="figures that others published for this kind of hardware")
    ] = None
    runs_on: Annotated[tuple[str, ...], Field(description="labels of the CI runner that needs no device")] = (
        "ubuntu-24.04",
    )
    timeout_minutes: Annotated[int, Field(ge=1, le=360)] = 60


def read_target_file(path: Path) -> TargetFile:
    """A `target.toml`; RecipeError says what is wrong with it."""
    return _parsed(path, read_text(path, "target"))


@cache
def _parsed(path: Path, text: str) -> TargetFile:
    """What stands in a file as it is: every command reads each for its target, and for the archives it declares."""
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"target {path} is not TOML", why=str(error)) from None
    return validate(TargetFile, value, path, "target")
