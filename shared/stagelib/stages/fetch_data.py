"""`fetch_data`: rows of a hub dataset, streamed, so that only what is read crosses the network."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stagelib import hub, rows
from stagelib.api import Call, Result, Stage, StageError

PROGRESS_EVERY = 64


@dataclass(frozen=True, kw_only=True)
class Params:
    """A split of a dataset; `fields` as in `read_data`; at most `samples` rows, no text twice."""

    dataset: str
    revision: str = "main"
    subset: str | None = None
    split: str
    fields: tuple[str, ...]
    samples: int


STAGE = Stage(
    summary="get the data from the hub",
    params=Params,
    needs=("datasets", "huggingface_hub", "pyarrow"),
    network=True,
    internal=True,
    threads=1,
    memory_mb=600,
)


def run(call: Call, params: Params) -> Result:
    hub.prepare(call)
    with hub.explained("dataset", params.dataset, params.revision), _readable(params):
        commit, data, origin = _prepared(call, params) if hub.offline() else _streamed(params)
        located = _located(call, data, params)
        collected = rows.collect(located, params.fields, params.samples, call.output)
    name = "/".join(part for part in (params.dataset, params.subset, params.split) if part)
    rows.refuse_empty(collected, f"the dataset {name}")
    facts = {"source": name, "commit": commit, "origin": origin, "fields": list(params.fields)}
    return Result(facts={**facts, **asdict(collected)})


def _streamed(params: Params) -> tuple[str, Any, str]:
    import datasets
    from huggingface_hub import HfApi

    # The library would go on for minutes after the hub has gone away.
    datasets.config.STREAMING_READ_MAX_RETRIES = datasets.config.STREAMING_OPEN_MAX_RETRIES = 3
    datasets.config.STREAMING_READ_RETRY_INTERVAL = datasets.config.STREAMING_OPEN_RETRY_INTERVAL = 1
    info = HfApi().dataset_info(params.dataset, revision=params.revision, timeout=hub.TIMEOUT_S)
    data = datasets.load_dataset(
        params.dataset, name=params.subset, split=params.split, revision=info.sha, streaming=True
    )
    return str(info.sha), data, "hub"


def _prepared(call: Call, params: Params) -> tuple[str, Any, str]:
    """The dataset from the caller's own cache, where `datasets` prepared it before (HF_HUB_OFFLINE)."""
    import datasets

    source = call.cache / "datasets" if call.cache is not None else None
    if source is None or not source.is_dir():
        raise hub.not_cached("dataset", params.dataset, params.revision)
    _link_tree(source, call.scratch / "datasets")
    data = datasets.load_dataset(
        params.dataset, name=params.subset, split=params.split, cache_dir=str(call.scratch / "datasets")
    )
    # `datasets` takes whatever it prepared last; its folder is named by the commit it came from.
    commit = Path(data.cache_files[0]["filename"]).parent.name if data.cache_files else ""
    if len(params.revision) == len(commit) and params.revision != commit:
        raise hub.not_cached("dataset", params.dataset, params.revision)
    return commit, data, "cache"


def _link_tree(source: Path, target: Path) -> None:
    """A writable copy of a read-only tree, without its bytes: `datasets` puts lock files beside what it reads."""
    for folder, _, files in os.walk(source):
        here = target / Path(folder).relative_to(source)
        here.mkdir(parents=True, exist_ok=True)
        for name in files:
            if not name.endswith(".lock"):
                (here / name).symlink_to(Path(folder) / name)


def _located(call: Call, data: Any, params: Params) -> Iterator[rows.Located]:
    columns = data.column_names
    if columns is not None:
        if absent := [field for field in params.fields if field not in columns]:
            message = f"the dataset {params.dataset!r} has no field {absent[0]!r}; it has {', '.join(columns)}"
            raise StageError(message, hint="name its fields in the recipe's `data`", kind="data")
        # Parquet stores columns apart, so the others need not be read at all.
        data = data.select_columns(list(params.fields))
    row: Mapping[str, Any]
    for number, row in enumerate(data, start=1):
        if number % PROGRESS_EVERY == 0:
            call.progress(number / params.samples, f"{number} rows")
        yield f"{params.dataset} {params.split} row {number}", row


@contextmanager
def _readable(params: Params) -> Iterator[None]:
    """What `datasets` says of an unknown subset or split, or of a dataset it can't read, as an error of the data."""
    import pyarrow
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        yield
    except (LocalEntryNotFoundError, HFValidationError):
        # Value errors by their class, but the hub's own: hub.explained has words for them.
        raise
    except (DatasetsError, ValueError, RuntimeError, pyarrow.ArrowException) as error:
        wanted = f"subset {params.subset!r}, split {params.split!r}" if params.subset else f"split {params.split!r}"
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StageError(
            f"can't read the dataset {params.dataset!r} ({wanted}): {cause}", hint=hub.WAY_OUT["dataset"], kind="data"
        ) from None
