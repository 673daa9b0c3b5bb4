"""`invoke matrix`: what CI runs, read from the targets' files. Pure: a catalog in, rows out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from portwright.bundle import file_name
from portwright.checked import StrictModel
from portwright.device_locks import DeviceLocks
from portwright.digests import digest_json
from portwright.errors import RecipeError, UsageError
from portwright.naming import suggestion
from portwright.recipe import Recipe, steps
from portwright.target import Catalog, Target
from portwright.target_file import DeviceSpec

Jobs = Literal["all", "images", "compile", "device"]
Format = Literal["github", "json"]
NO_DEVICE = "none"
MOST_JOBS = 256
"""GitHub refuses a matrix of more."""
RUN_FILES = ("result.json", "measurements.jsonl", "manifest.json")
DEVICE_FILES = ("device-results/",)


class Row(StrictModel):
    """One job: a recipe of a target, compiled without its device, or measured on one."""

    name: Annotated[str, Field(description="unique; also the name of what the job uploads")]
    target: str
    device: Annotated[str, Field(description="a device of target.toml, or `none`")]
    recipe: str
    runs_on: Annotated[tuple[str, ...], Field(min_length=1, description="labels of the runner")]
    image_key: Annotated[str, Field(description="cache key of the images that the target's recipes run in")]
    timeout_minutes: int
    upload: Annotated[
        tuple[str, ...], Field(max_length=3, description="paths of the job's results, patterns allowed; 3 at the most")
    ]
    platform: Annotated[str, Field(description="of the device's runner, by its labels; empty where they name none")]
    bundle: Annotated[str, Field(description="the bundle that the device runs; empty: it takes a checkout")]
    bundled: Annotated[bool, Field(description="bundles are packed: a device of the target runs one")]
    bundles: Annotated[str, Field(description="name of the upload that holds the recipe's bundles")]


class ImageRow(StrictModel):
    """One job that builds images: those of a target, and of every other target with the same ones."""

    name: str
    target: str
    runs_on: tuple[str, ...]
    image_key: str
    timeout_minutes: int


def rows(catalog: Catalog, locks: DeviceLocks) -> list[Row]:
    """One row a target, device and recipe; a device without a runner gives none. RecipeError for a recipe that is
    wrong: what can't run is named here, not an hour later."""
    found: list[Row] = []
    for target in catalog.targets.values():
        for recipe in target.recipe_paths:
            _, checked = catalog.recipes_for([target], recipe)[0]
            found += _recipe_rows(catalog, locks, target, checked)
    return found


def image_rows(catalog: Catalog) -> list[ImageRow]:
    """One row for each set of images, by the first target that has it."""
    found: dict[str, ImageRow] = {}
    for target in catalog.targets.values():
        key = image_key(catalog, target)
        row = ImageRow(
            name=target.name,
            target=target.name,
            runs_on=target.file.runs_on,
            image_key=key,
            timeout_minutes=target.file.timeout_minutes,
        )
        found.setdefault(key, row)
    return list(found.values())


def image_key(catalog: Catalog, target: Target) -> str:
    """A cache key that changes with any toolchain of the target, and with nothing else."""
    toolchains = [catalog.toolchains[name] for name in target.toolchains]
    digests = {toolchain.name: toolchain.digest("docker") for toolchain in toolchains if toolchain.has_image}
    return f"portwright-images-{digest_json(digests)[:16]}"


def text(catalog: Catalog, locks: DeviceLocks, *, format_: str, jobs: str) -> str:
    """What `invoke matrix` prints: one line for GitHub, or indented JSON. UsageError for an unknown option."""
    for option, given, known in (("--format", format_, get_args(Format)), ("--jobs", jobs, get_args(Jobs))):
        if given not in known:
            raise UsageError(f"{option}={given} is not known", hint=suggestion(given, known))
    chosen: Sequence[Row | ImageRow] = image_rows(catalog) if jobs == "images" else _of(rows(catalog, locks), jobs)
    document = {"include": [row.model_dump(mode="json") for row in chosen]}
    if format_ == "json":
        return json.dumps(document, indent=2)
    if len(chosen) > MOST_JOBS:
        why = f"GitHub runs at most {MOST_JOBS} jobs of one matrix"
        raise RecipeError(f"the matrix has {len(chosen)} jobs", why=why, hint="--jobs=compile and --jobs=device apart")
    return json.dumps(document, separators=(",", ":"))


def _of(all_rows: Sequence[Row], jobs: str) -> list[Row]:
    wanted = {"all": (True, False), "compile": (True,), "device": (False,)}[jobs]
    return [row for row in all_rows if (row.device == NO_DEVICE) in wanted]


def _recipe_rows(catalog: Catalog, locks: DeviceLocks, target: Target, wanted: Recipe) -> Iterator[Row]:
    recipe = wanted.name
    ships = _ships(catalog, target, wanted)
    bundles = {
        device: file_name(recipe, platform)
        for device, spec in target.file.devices.items()
        if (platform := locks.labelled(spec.runs_on))
        and ships in catalog.stage_library.runtime_formats(spec.runtime)
        and _bundled(locks, spec, platform)
    }
    common: dict[str, Any] = {
        "target": target.name,
        "recipe": recipe,
        "image_key": image_key(catalog, target),
        "bundles": f"bundles.{target.name}.{recipe}",
        "bundled": bool(bundles),
    }
    yield Row(
        name=f"{target.name}.{NO_DEVICE}.{recipe}",
        device=NO_DEVICE,
        runs_on=target.file.runs_on,
        timeout_minutes=target.file.timeout_minutes,
        upload=_run_files(recipe),
        platform="",
        bundle="",
        **common,
    )
    for device, spec in target.file.devices.items():
        if spec.runs_on:
            yield Row(
                name=f"{target.name}.{device}.{recipe}",
                device=device,
                runs_on=spec.runs_on,
                timeout_minutes=spec.timeout_minutes,
                upload=DEVICE_FILES if device in bundles else _run_files(recipe),
                platform=locks.labelled(spec.runs_on) or "",
                bundle=bundles.get(device, ""),
                **common,
            )


def _ships(catalog: Catalog, target: Target, wanted: Recipe) -> str | None:
    """Format of the model that ships: the last stage's, those left out that want a vendor's archive."""
    found: str | None = None
    for declaration, _ in steps(wanted, catalog.stage_library):
        if catalog.missing_archive(declaration, target) is None:
            found = declaration.stage.makes
    return found


def _bundled(locks: DeviceLocks, spec: DeviceSpec, platform: str) -> bool:
    """Whether the device's runtime can be had on its runner without Docker."""
    try:
        return bool(platform and locks.requirements(spec.runtime, platform))
    except UsageError:
        return False


def _run_files(recipe: str) -> tuple[str, ...]:
    return tuple(f"artifacts/runs/*/{recipe}/{name}" for name in RUN_FILES)
