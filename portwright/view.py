"""`runs/<model>/<recipe>/`: the last run's view, for people and other programs. Replaced whole, in one step."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from portwright.digests import digest_text
from portwright.disk import read_json, remove_tree, storage_error, sync_folder, sync_tree, write_synced
from portwright.gates import failed
from portwright.locks import lock_file
from portwright.results import RunResult
from portwright.sources import ModelSource
from portwright.store import Artifact

RESULT = "result.json"
MEASUREMENTS = "measurements.jsonl"
MANIFEST = "manifest.json"
DEPLOY = "deploy"
REJECTED = "REJECTED.txt"
SESSION = "session.json"
OWNER = ".model.json"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


class Views:
    """All views under `runs/`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._runs = root / "runs"

    def model_folder(self, model: ModelSource) -> Path:
        """The folder of a model: its slug, with a short digest where another model has that slug already."""
        owner = _owner(model)
        plain = self._runs / model.slug
        for folder in (plain, self._runs / f"{model.slug}-{model.identity[:8]}"):
            known = read_json(folder / OWNER)
            if known is None or _same_model(known, owner):
                return folder
        return plain.with_name(f"{model.slug}-{model.identity[:16]}")

    def write(
        self,
        model: ModelSource,
        result: RunResult,
        deploy: Artifact,
        samples: Iterable[Mapping[str, Any]],
        about: Mapping[str, Any],
    ) -> Path:
        """Write the view of a run beside the old one and exchange the two; StoreError where the disk refuses."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with lock_file(self._root / "views.lock"):
                return self._write(model, result, deploy, samples, about)
        except OSError as error:
            raise storage_error(self._root, error) from error

    def manifest(self, model: ModelSource, recipe: str) -> dict[str, Any] | None:
        """The last `manifest.json` of a recipe on a model, or None."""
        value = read_json(self.model_folder(model) / recipe / MANIFEST)
        return value if isinstance(value, dict) else None

    def _write(
        self,
        model: ModelSource,
        result: RunResult,
        deploy: Artifact,
        samples: Iterable[Mapping[str, Any]],
        about: Mapping[str, Any],
    ) -> Path:
        parent = self.model_folder(model)
        view = parent / result.recipe
        texts = _texts(result, deploy, samples, about)
        if read_json(parent / OWNER) == _owner(model) and _is_there(view, texts, deploy):
            return view
        parent.mkdir(parents=True, exist_ok=True)
        _own(parent, model)
        for leftover in parent.glob(f".{result.recipe}.*"):
            remove_tree(leftover)
        fresh = parent / f".{result.recipe}.{uuid.uuid4().hex[:8]}"
        fresh.mkdir()
        try:
            _link_tree(deploy.files, fresh / DEPLOY)
            for name, text in texts.items():
                write_synced(fresh / name, text)
            sync_tree(fresh)
            _exchange(fresh, view)
            sync_folder(parent)
        finally:
            remove_tree(fresh)
        return view


def _texts(
    result: RunResult, deploy: Artifact, samples: Iterable[Mapping[str, Any]], about: Mapping[str, Any]
) -> dict[str, str]:
    """What a view holds beside what the package made, by name; the manifest lists every file with SHA-256 and size."""
    texts = {
        f"{DEPLOY}/{SESSION}": json.dumps(session_notes(result), indent=1) + "\n",
        RESULT: result.model_dump_json(indent=2) + "\n",
        MEASUREMENTS: "".join(json.dumps(sample) + "\n" for sample in samples),
    }
    if result.status == "failed":
        reasons = [f"{gate.name}: {gate.reason}" for gate in failed(result.gates)]
        texts[f"{DEPLOY}/{REJECTED}"] = "Don't ship this: a gate failed.\n" + "\n".join(reasons) + "\n"
    files = {name: {"sha256": digest_text(text), "size": len(text.encode())} for name, text in texts.items()}
    files |= {
        f"{DEPLOY}/{name}": {"sha256": entry.sha256, "size": entry.size}
        for name, entry in deploy.manifest.files.items()
    }
    return texts | {MANIFEST: json.dumps({**about, "files": dict(sorted(files.items()))}, indent=1) + "\n"}


def session_notes(result: RunResult) -> dict[str, Any]:
    """What to tell the runtime so that the model runs as it was measured, and on what that was found to be fastest."""
    known = ("cpu_model", "isa_flags", "load_average", "versions")
    return {
        "note": "Measured on this machine, which is what they hold for: on another one measure again.",
        "runtime": result.placement.runtime,
        "device": result.device,
        "executed_on": result.executed_on,
        "executed": result.executed.stage,
        "deployable": result.executed.deployable,
        "measured": result.measured,
        "machine": {name: result.environment.get(name) for name in known},
        "settings": {
            name: {"threads": found.threads, "chosen": found.chosen, "settings": found.settings}
            | {"ratio_to_default": found.again.ratio if found.options and found.again else None}
            for name, found in result.session_settings.items()
        },
    }


def _is_there(view: Path, texts: Mapping[str, str], deploy: Artifact) -> bool:
    """Whether a view is already what it would be written as: its texts word for word, the rest by size and time."""
    made = {f"{DEPLOY}/{name}": deploy.files / name for name in deploy.manifest.files}
    try:
        there = {path.relative_to(view).as_posix() for path in view.rglob("*") if not path.is_dir()}
        return (
            there == texts.keys() | made.keys()
            and all((view / name).read_bytes() == text.encode() for name, text in texts.items())
            and all(_stamp(view / name) == _stamp(source) for name, source in made.items())
        )
    except OSError:
        return False


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _owner(model: ModelSource) -> dict[str, str]:
    return {"source": model.text, "identity": model.identity}


def _own(folder: Path, model: ModelSource) -> None:
    """Say whose folder this is, as the model is now: written whole or not at all."""
    owner = folder / OWNER
    fresh = owner.with_name(f"{OWNER}.{uuid.uuid4().hex[:8]}")
    write_synced(fresh, json.dumps(_owner(model)))
    fresh.replace(owner)


def _same_model(known: object, owner: Mapping[str, str]) -> bool:
    """The same place, or the same content: a folder that was trained on is still that model."""
    return isinstance(known, dict) and any(known.get(name) == owner[name] for name in owner)


def _link_tree(source: Path, destination: Path) -> None:
    """The files of an artifact under another name: hard links, or copies where the disk has none."""
    for path in sorted(source.rglob("*")):
        target = destination / path.relative_to(source)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except OSError:
            shutil.copy2(path, target)
    destination.mkdir(parents=True, exist_ok=True)


def _exchange(fresh: Path, view: Path) -> None:
    """Put `fresh` in the place of `view`; the old one, if any, is then at `fresh`."""
    if not view.exists():
        fresh.rename(view)
        return
    if sys.platform.startswith("linux") and _renameat2(fresh, view):
        return
    # Without an exchanging rename there is an instant with no view; never one with half a view.
    old = fresh.with_name(f"{fresh.name}.old")
    view.rename(old)
    fresh.rename(view)
    remove_tree(old)


def _renameat2(first: Path, second: Path) -> bool:
    """Linux's atomic exchange of two paths; False where the file system has none."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):
        return False
    status = library.renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    return int(status) == 0
