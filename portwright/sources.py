"""What comes from outside a recipe: a model (hub id, local folder, synthetic) and data (hub dataset, local file)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from portwright.digests import DigestMemory, digest_file, digest_json
from portwright.errors import DataError, ModelError
from portwright.naming import slug, user_path
from stagelib.hfmodel import longest_text
from stagelib.rows import SUFFIXES

SYNTHETIC = "synthetic:"
HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
# Other frameworks' weights may lie in the same folder; no stage reads them, and they can be large.
NOT_READ = (".bin", ".h5", ".msgpack", ".ot", ".onnx", ".pt", ".pth", ".ckpt", ".gguf", ".tflite")


@dataclass(frozen=True, kw_only=True)
class LocalSource:
    """A file or folder of the user's, known by its content."""

    path: Path
    digest: str

    def read_again(self) -> str:
        """The digest as it is now, whatever is remembered."""
        if self.path.is_file():
            return digest_file(self.path)
        return digest_json({name: digest_file(path) for name, path in model_files(self.path).items()})

    def stamps(self) -> tuple[tuple[str, int, int, int, int], ...]:
        """Name, inode, size and times of every file: two that are equal had nothing written between them.

        Whoever writes moves the time of the last change of state, which nobody can set back; Windows has none, and
        there it is the time of the last write that counts.
        """
        files = {"": self.path} if self.path.is_file() else model_files(self.path)
        found = ((name, path.stat()) for name, path in files.items())
        return tuple((name, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for name, stat in found)


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Where a model comes from. `stage` makes the model folder, unless it is a local folder already."""

    text: str
    """As it is shown and recorded: `org/name@revision`, an absolute path, `synthetic:…`."""
    slug: str
    synthetic: bool = False
    local: LocalSource | None = None
    longest_text: int | None = None
    """The most tokens it takes, where it is here and its configuration says."""
    stage: str = ""
    params: Mapping[str, Any]

    @property
    def identity(self) -> str:
        """Digest of what is known of the model before it is fetched."""
        return self.local.digest if self.local else digest_json({"stage": self.stage, "params": dict(self.params)})


def parse_model(text: str, revision: str, memory: DigestMemory) -> ModelSource:
    """Read a recipe's `model` or `--model`; ModelError says what is wrong with it."""
    if not text.strip():
        raise ModelError("--model is empty", hint="a hub id, a folder with config.json, or synthetic:bert-base?seed=0")
    if text.startswith(SYNTHETIC):
        return _synthetic(text)
    path = user_path(text)
    if path.exists() or text.startswith((".", "/", "~")) or "\\" in text:
        return _local_model(path, memory)
    name, _, chosen = text.partition("@")
    if not HUB_ID.match(name) or (chosen == "" and "@" in text):
        raise ModelError(
            f"no model {text!r}",
            why="it is no folder, and no hub id (org/name, or org/name@revision)",
            hint="--model=<a folder with config.json and *.safetensors>",
        )
    revision = chosen or revision
    return ModelSource(
        text=f"{name}@{revision}", slug=slug(name), stage="fetch_model", params={"id": name, "revision": revision}
    )


def _synthetic(text: str) -> ModelSource:
    name, _, query = text.removeprefix(SYNTHETIC).partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(set(given) - {"seed"})
    seed = given.get("seed", "0")
    if unknown or not seed.isdecimal():
        why = f"unknown option {unknown[0]!r}" if unknown else f"seed must be a whole number, not {seed!r}"
        raise ModelError(f"can't read --model={text}", why=why, hint="synthetic:bert-base?seed=0")
    return ModelSource(
        text=f"{SYNTHETIC}{name}?seed={int(seed)}",
        slug=slug(f"synthetic-{name}-seed-{int(seed)}"),
        synthetic=True,
        stage="synthesize",
        params={"architecture": name, "seed": int(seed)},
    )


def _local_model(path: Path, memory: DigestMemory) -> ModelSource:
    if not path.exists():
        raise ModelError(f"no model folder {path}", hint="check --model, or give a hub id (org/name)")
    if not path.is_dir():
        raise ModelError(
            f"--model={path} is not a folder", hint="give the folder that holds config.json and the *.safetensors"
        )
    try:
        files = model_files(path)
        config = _config(path)
        listed = sorted(item.name for item in path.iterdir() if item.suffix in NOT_READ)
    except OSError as error:
        raise ModelError(f"can't read model folder {path}", why=f"{error.filename}: {error.strerror}") from None
    if not any(name.endswith(".safetensors") for name in files):
        why = f"it holds {', '.join(listed[:3])}, which can carry code" if listed else "it holds no weights"
        hint = "save it with transformers' save_pretrained(…, safe_serialization=True)"
        raise ModelError(f"model folder {path} has no *.safetensors", why=why, hint=hint)
    try:
        digest = digest_json({name: memory.file(file) for name, file in files.items()})
    except OSError as error:
        raise ModelError(f"can't read model folder {path}", why=f"{error.filename}: {error.strerror}") from None
    resolved = path.resolve()
    return ModelSource(
        text=str(resolved),
        slug=slug(resolved.name),
        local=LocalSource(path=resolved, digest=digest),
        longest_text=longest_text(config),
        params={},
    )


def _config(path: Path) -> dict[str, Any]:
    config = path / "config.json"
    if not config.is_file():
        raise ModelError(
            f"model folder {path} has no config.json",
            why="it is no Hugging Face model folder" + ("" if any(path.iterdir()) else ": it is empty"),
            hint="give the folder that transformers' save_pretrained wrote",
        )
    try:
        value = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"can't read {config}", why=str(error)) from None
    if not isinstance(value, dict):
        raise ModelError(f"{config} is not a JSON object", hint="give the folder that save_pretrained wrote")
    if "auto_map" in value:
        raise ModelError(
            f"model folder {path} asks for code of its own",
            why="auto_map in config.json; such code is never run, and a built-in class in its place is another model",
            hint="choose a model that needs none",
        )
    return value


def model_files(folder: Path) -> dict[str, Path]:
    """Files of a model folder that stages may read, by relative name: no other framework's weights, nothing hidden.

    Linked folders are entered, each once.
    """
    found: dict[str, Path] = {}
    entered = {folder.resolve()}
    for name, folders, files in os.walk(folder, followlinks=True):
        here = Path(name)
        new = {item: (here / item).resolve() for item in sorted(folders) if not item.startswith(".")}
        folders[:] = [item for item, place in new.items() if place not in entered]
        entered |= set(new.values())
        for path in (here / item for item in files if not item.startswith(".")):
            if path.suffix not in NOT_READ and path.is_file():
                found[path.relative_to(folder).as_posix()] = path
    return dict(sorted(found.items()))


def has_links(folder: Path) -> bool:
    """Whether anything in a folder is a symbolic link."""
    return any(path.is_symlink() for path in folder.rglob("*"))


def parse_data(text: str, memory: DigestMemory) -> LocalSource:
    """Read `--data`: a JSON-lines or Parquet file; DataError says what is wrong with it."""
    if not text.strip():
        raise DataError(
            "--data is empty", hint="a JSON-lines or Parquet file, or leave it out for the recipe's own data"
        )
    path = user_path(text)
    if not path.exists():
        raise DataError(f"no data file {path}", hint="check --data, or leave it out for the recipe's own hub data")
    if not path.is_file():
        raise DataError(f"--data={path} is not a file", hint="give one JSON-lines or Parquet file")
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"--data={path}: unknown kind of file {path.suffix!r}", hint=f"known: {', '.join(SUFFIXES)}")
    if path.stat().st_size == 0:
        raise DataError(f"data file {path} is empty", hint="one JSON object a line, with the fields the recipe names")
    try:
        return LocalSource(path=path.resolve(), digest=memory.file(path))
    except OSError as error:
        raise DataError(f"can't read data file {path}", why=error.strerror or str(error)) from None
