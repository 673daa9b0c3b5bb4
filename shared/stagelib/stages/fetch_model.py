"""`fetch_model`: a model of the Hugging Face hub as a plain folder."""

from __future__ import annotations

import glob
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stagelib import hfmodel, hub
from stagelib.api import Call, Result, Stage, StageError


@dataclass(frozen=True, kw_only=True)
class Params:
    """`id` as on the hub (`owner/name`); `revision` is a branch, a tag or, best, a commit."""

    id: str
    revision: str = "main"


STAGE = Stage(
    summary="get the model from the hub",
    params=Params,
    needs=("huggingface_hub", "transformers", "safetensors"),
    network=True,
    internal=True,
    threads=1,
    memory_mb=600,
)


def run(call: Call, params: Params) -> Result:
    hub.prepare(call)
    with hub.explained("model", params.id, params.revision):
        snapshot, origin = _cached(call, params), "cache"
        if snapshot is None:
            if hub.offline():
                raise hub.not_cached("model", params.id, params.revision)
            snapshot, origin = _download(call, params), "hub"
    hfmodel.refuse_remote_code(hfmodel.read_config(snapshot))
    if absent := hfmodel.missing_files(snapshot):
        message = f"the model {params.id!r} (revision {params.revision}) lacks {', '.join(absent)}"
        raise StageError(message, hint=hub.WAY_OUT["model"], kind="model")
    files = hfmodel.wanted([path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()])
    for name in files:
        (call.output / name).parent.mkdir(parents=True, exist_ok=True)
        # The cache links to blobs; an artifact holds the bytes.
        shutil.copyfile(snapshot / name, call.output / name)
    sizes = sum((call.output / name).stat().st_size for name in files)
    # A snapshot's folder is named by its commit.
    facts = {"id": params.id, "revision": params.revision, "commit": snapshot.name, "origin": origin}
    return Result(facts={**facts, "files": files, "bytes": sizes})


def _cached(call: Call, params: Params) -> Path | None:
    """The snapshot in the caller's own cache, if all of the model is there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    if call.cache is None:
        return None
    where = call.cache / "hub"
    try:
        found = snapshot_download(params.id, revision=params.revision, cache_dir=where, local_files_only=True)
    except LocalEntryNotFoundError:
        return None
    # A snapshot may be partial: any tool that wanted one file leaves a folder like this.
    return Path(found) if not hfmodel.missing_files(Path(found)) else None


def _download(call: Call, params: Params) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    info = HfApi().model_info(params.id, revision=params.revision, files_metadata=True, timeout=hub.TIMEOUT_S)
    sizes = {entry.rfilename: entry.size or 0 for entry in info.siblings or ()}
    hfmodel.refuse_without_weights(sizes.keys(), params.id, params.revision)
    # The hub parses config.json itself: what can't be accepted is refused before its weights cross the network.
    if isinstance(info.config, dict):
        hfmodel.refuse_remote_code(info.config)
    files = hfmodel.wanted(sizes.keys())
    home = call.fills or call.scratch / "hub-home"
    with _progress(call, home / "hub", sum(sizes[name] for name in files)):
        found = snapshot_download(
            params.id,
            revision=params.revision,
            allow_patterns=[glob.escape(name) for name in files],
            cache_dir=home / "hub",
        )
    return Path(found)


@contextmanager
def _progress(call: Call, folder: Path, total: int) -> Iterator[None]:
    """Report the share of `total` bytes that has arrived in `folder`, every half second."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            arrived = hub.folder_bytes(folder) if folder.is_dir() else 0
            call.progress(arrived / max(total, 1), f"{arrived >> 20} of {total >> 20} MiB")

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
