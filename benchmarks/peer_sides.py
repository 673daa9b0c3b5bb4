"""The two sides of `benchmarks.peer`: one recipe made by each as a whole process, and what that left on the disk."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.made import Made, make
from benchmarks.peer_recipes import Published, write
from benchmarks.processes import Cost, succeeded, timed
from benchmarks.toolchains import VENVS
from portwright.store import Artifact, Store

COMPILERS = ("compile_qnn", "compile_trt")
"""Stages that have no counterpart among the peer's passes: it leaves compiling to the device."""
PEER_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "OLIVE_DISABLE_TELEMETRY": "1"}
LISTING = (
    "import importlib.metadata as m, json;"
    "print(json.dumps({d.metadata['Name'].lower(): d.version for d in m.distributions()}))"
)
LAST_LINES = 3


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What one side took for one recipe."""

    cost: Cost
    model: Path | None
    """What it made, in the form that is executed here; None where it ended without one, whatever its exit code."""
    made: Made | None = None
    """Ours, with all it was made from."""
    why: str = ""
    """Its last words where it made none."""
    stages: Mapping[str, float] = field(default_factory=dict)
    """CPU seconds by stage, of those that ran."""
    peak_bytes: int = 0


@dataclass(frozen=True)
class Environment:
    """One of the peer's virtual environments, with what is installed in it."""

    python: Path
    versions: Mapping[str, str]

    def has(self, names: Sequence[str]) -> bool:
        return all(name in self.versions for name in names)


def environments(named: Sequence[str]) -> list[Environment]:
    """The peer's environments, each named by its folder or its interpreter; RuntimeError for one that doesn't start."""
    found = []
    for name in named:
        path = Path(name).absolute()
        python = path / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python") if path.is_dir() else path
        try:
            listing = succeeded(timed([str(python), "-c", LISTING]), f"the peer's {name}")
        except OSError as error:
            raise RuntimeError(f"the peer's {name} has no interpreter that starts: {error}") from error
        found.append(Environment(python, json.loads(listing.out.splitlines()[-1])))
    return found


def ours(published: Published, model: Path, texts: Path, volume: Path) -> Taken:
    """Make our recipe on a host volume with warm environments; RuntimeError where it fails."""
    volume.mkdir(parents=True, exist_ok=True)
    if not (volume / "venvs").is_symlink():
        (volume / "venvs").symlink_to(VENVS, target_is_directory=True)
    before = {artifact.folder for artifact in artifacts(volume)}
    made = make(published.target, published.recipe, model, texts, volume)
    new = [artifact.manifest for artifact in artifacts(volume) if artifact.folder not in before]
    stages: dict[str, float] = {}
    for manifest in new:
        stages[manifest.stage] = stages.get(manifest.stage, 0.0) + (manifest.cpu_seconds or 0.0)
    peak = max(manifest.peak_memory_bytes for manifest in new)
    return Taken(cost=made.cost, model=entry_of(made.executed.files), made=made, stages=stages, peak_bytes=peak)


def peers(published: Published, python: Path, model: Path, texts: Path, folder: Path, cache: Path) -> Taken:
    """Make the peer's recipe. Its exit code is 0 even where a pass failed: what counts is the model."""
    folder.mkdir(parents=True)
    config = write(published, model, texts, folder, cache)
    command = [str(python), "-m", "olive", "run", "--config", str(config)]
    cost = timed(command, {**PEER_ENVIRONMENT, "HF_HOME": str(cache.parent / "huggingface")}, cwd=folder)
    made = entry_of(folder / "model")
    why = "" if made else " ".join(cost.out.splitlines()[-LAST_LINES:])
    return Taken(cost=cost, model=made, why=why, peak_bytes=cost.peak_bytes)


def entry_of(folder: Path) -> Path | None:
    """The model in a folder: an OpenVINO IR where there is one, else ONNX; None where there is neither."""
    if not folder.is_dir():
        return None
    return next((path for kind in ("*.xml", "*.onnx") for path in sorted(folder.glob(kind))), None)


def artifacts(volume: Path) -> Iterator[Artifact]:
    """Every artifact of a host volume."""
    store = Store(volume)
    for manifest in sorted((volume / "store").glob("*/*/manifest.json")):
        artifact = store.get(manifest.parent.name)
        if artifact:
            yield artifact


@dataclass(frozen=True)
class Disk:
    """Bytes of a host volume's artifacts, each file once, whatever number of names it has."""

    whole: int
    compiled: int
    """Those of it that only compilers made: contexts and engines."""


def on_disk(volume: Path) -> Disk:
    """What the artifacts of a volume take."""
    sizes: dict[int, int] = {}
    compiled: set[int] = set()
    others: set[int] = set()
    for artifact in artifacts(volume):
        for path in artifact.files.rglob("*"):
            if path.is_file():
                stat = path.stat()
                sizes[stat.st_ino] = stat.st_size
                if artifact.manifest.stage in COMPILERS:
                    compiled.add(stat.st_ino)
                elif artifact.manifest.stage != "package":
                    others.add(stat.st_ino)
    return Disk(sum(sizes.values()), sum(sizes[inode] for inode in compiled - others))


def folder_bytes(folder: Path) -> int:
    """Everything under a folder, each file once."""
    files = {stat.st_ino: stat.st_size for path in folder.rglob("*") if path.is_file() for stat in [path.stat()]}
    return sum(files.values())
