"""What goes into a bundle, and from where: a run's view, the store, the stage library, the device locks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portwright.bundle_zip import Entry
from portwright.device_locks import PlatformSpec, Requirements
from portwright.errors import GateError, StoreError, UsageError
from portwright.project import Project
from portwright.readback import read_result
from portwright.request import Wanted
from portwright.results import RunResult
from portwright.stages import StageLibrary
from portwright.store import Artifact, Store
from portwright.view import DEPLOY, RESULT, Views
from stagelib.modelinfo import FILE as MODEL_FILE
from stagelib.modelinfo import ModelInfo
from stagelib.runner.contents import (
    BATCHES,
    FILE,
    HOST_RESULT,
    REFERENCE,
    REQUIREMENTS,
    Contents,
    Execution,
    FileEntry,
)

README = "README.txt"
EVALUATION = "evaluation.npz"
RUNNER = "stagelib.runner.__main__"
CPU_MIN_COSINE = 0.99
"""The same model on another processor: integer kernels differ between instruction sets."""
DEVICE_MIN_COSINE = 0.98
"""A device against what its model was compiled from, where the recipe has no `emulation` gate that says better."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """The last run of a recipe, fit to be packed."""

    wanted: Wanted
    view: Path
    result: RunResult
    manifest: Mapping[str, Any]
    batches: Artifact
    reference: Artifact

    @property
    def format(self) -> str:
        return ModelInfo.read(self.view / DEPLOY).format

    @property
    def made_by(self) -> str:
        """The last of the recipe's stages that ran: one that wants a vendor's archive is left out without it."""
        return str(self.manifest["stages"][-1])


def last_run(project: Project, wanted: Wanted) -> Packed:
    """The view of the last run; UsageError where there is none of this recipe, GateError where it was rejected."""
    recipe, views = wanted.recipe, Views(project.artifacts)
    view = views.model_folder(wanted.model) / recipe.name
    again = f"invoke run --target={wanted.target.name} --recipe={recipe.name} --model={wanted.model.text}"
    manifest = views.manifest(wanted.model, recipe.name)
    if manifest is None:
        raise UsageError(f"recipe {recipe.name!r} was not run on model {wanted.model.text}", hint=again)
    if "stages" not in manifest:
        raise UsageError(f"the last run of {recipe.name} is an older release's, and doesn't say what ran", hint=again)
    result = read_result(view / RESULT)
    if result.status == "failed":
        reasons = "; ".join(gate.reason for gate in result.gates if gate.passed is False)
        raise GateError(f"the last run of {recipe.name} was rejected: it is not packed", why=reasons)
    if result.recipe_digest != recipe.digest:
        raise UsageError(f"recipe {recipe.path} was edited since its last run", hint=again)
    if wanted.model.local is not None and result.model.digest != wanted.model.local.digest:
        raise UsageError(f"model {wanted.model.text} was changed since the last run", hint=again)
    keys = _measured_inputs(manifest)
    store = Store(project.artifacts)
    return Packed(
        wanted=wanted,
        view=view,
        result=result,
        manifest=manifest,
        batches=_artifact(store, keys["batches"], again),
        reference=_artifact(store, keys["reference"], again),
    )


def _measured_inputs(manifest: Mapping[str, Any]) -> Mapping[str, str]:
    """Role to key of what the benchmark was given."""
    for components in manifest["components"].values():
        if components["stage"] == "benchmark":
            inputs: Mapping[str, str] = components["inputs"]
            return inputs
    raise StoreError("the last run's manifest names no benchmark", hint="run the recipe again")


def _artifact(store: Store, key: str, again: str) -> Artifact:
    artifact = store.get(key)
    if artifact is None:
        raise StoreError(f"artifact {key[:12]} of the last run is gone or damaged", hint=again)
    return artifact


def collect(
    packed: Packed,
    library: StageLibrary,
    *,
    platform: tuple[str, PlatformSpec],
    executions: Sequence[Execution],
    requirements: Requirements,
    reference: bool,
) -> dict[str, Entry]:
    """Every file of a bundle by its name in it, `bundle.json` included."""
    entries = _deploy(packed)
    entries[f"{BATCHES}/{EVALUATION}"] = _stored(packed.batches, EVALUATION)
    if reference:
        info = ModelInfo.read(packed.reference.files)
        entries |= {f"{REFERENCE}/{name}": _stored(packed.reference, name) for name in (MODEL_FILE, *info.files)}
    entries[HOST_RESULT] = Entry.of((packed.view / RESULT).read_bytes())
    runtimes = sorted({execution.runtime for execution in executions})
    modules = (RUNNER, *(f"stagelib.runtimes.{name}" for name in runtimes))
    entries |= {name: Entry.of(path.read_bytes()) for name, path in library.packed(*modules).items()}
    if requirements.lock is not None:
        entries[REQUIREMENTS] = Entry.of(requirements.lock.read_bytes())
    entries[README] = Entry.of(_readme(packed, platform, executions, requirements).encode())
    recipe, (name, spec) = packed.wanted.recipe, platform
    gates = recipe.gates
    contents = Contents(
        recipe=recipe.name,
        target=packed.wanted.target.name,
        platform=name,
        system=spec.system,
        machines=spec.machines,
        executions=tuple(executions),
        environment=requirements.vendor,
        made_by=packed.made_by,
        gates=gates.model_dump(mode="json"),
        golden_min_cosine={
            "cpu": CPU_MIN_COSINE,
            "device": gates.emulation.min if gates.emulation else DEVICE_MIN_COSINE,
        },
        benchmark=recipe.benchmark,
        files={name: FileEntry(sha256=entry.sha256, size=entry.size) for name, entry in entries.items()},
    )
    return {**entries, FILE: Entry.of(contents.text().encode())}


def _deploy(packed: Packed) -> dict[str, Entry]:
    """The files of `deploy/`, as the view's manifest knows them."""
    files: Mapping[str, Mapping[str, Any]] = packed.manifest["files"]
    return {
        name: Entry(sha256=entry["sha256"], size=entry["size"], path=packed.view / name)
        for name, entry in files.items()
        if name.startswith(f"{DEPLOY}/")
    }


def _stored(artifact: Artifact, name: str) -> Entry:
    entry = artifact.manifest.files[name]
    return Entry(sha256=entry.sha256, size=entry.size, path=artifact.files / name)


def _readme(
    packed: Packed, platform: tuple[str, PlatformSpec], executions: Sequence[Execution], requirements: Requirements
) -> str:
    name, spec = platform
    python = r".venv\Scripts\python" if spec.system == "windows" else ".venv/bin/python"
    if requirements.lock is not None:
        install = f"{python} -m pip install --require-hashes --no-deps --only-binary :all: -r {REQUIREMENTS}"
        setup = f"    {'py -3.11' if spec.system == 'windows' else 'python3'} -m venv .venv\n    {install}\n"
    else:
        python, setup = "python", f"    {requirements.vendor}\n"
    devices = "".join(f"    --device={item.name:8} {item.title}\n" for item in executions)
    return f"""{packed.wanted.recipe.name}, target {packed.wanted.target.name}, for {spec.title} ({name})

In the folder this was unpacked to, with Python 3.11 or newer:

{setup}    {python} -m stagelib.runner verify
    {python} -m stagelib.runner bench --out result.json

Without --device the first of these is used:

{devices}
verify checks every file, the platform, the packages, where the runtime put the graph, and the answers to the golden
inputs. bench does the same, then measures, and writes a result for the host: invoke results --of=result.json
Exit code 0: all is well; 1: a check or a gate failed, and says which; 2: the command or the bundle is wrong.
"""
