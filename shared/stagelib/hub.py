"""The Hugging Face hub as the stages with network see it: its caches, and what its failures mean to a user."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from stagelib.api import Call, StageError

Repo = Literal["model", "dataset"]
TIMEOUT_S = 20.0
WAY_OUT: dict[Repo, str] = {
    "model": "--model=<folder> takes a local model instead, and --data=<file> local texts",
    "dataset": "--data=<file> takes a local .jsonl or .parquet file instead, and --model=<folder> a local model",
}


def prepare(call: Call) -> None:
    """Point the hub's libraries at the call's own folders; must come before they are imported, which reads these.

    HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE stay as the caller has them.
    """
    home = call.fills or call.scratch / "hub-home"
    home.mkdir(parents=True, exist_ok=True)
    if call.cache is not None and (call.cache / "token").is_file():
        # The caller logged in once; their token lies in the HF_HOME that these settings hide.
        os.environ.setdefault("HF_TOKEN_PATH", str(call.cache / "token"))
    os.environ |= {
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        # Only the hub's files are worth keeping; logs, chunks and modules go with the call.
        "HF_ASSETS_CACHE": str(call.scratch / "assets"),
        "HF_DATASETS_CACHE": str(call.scratch / "datasets-home"),
        "HF_MODULES_CACHE": str(call.scratch / "modules"),
        "HF_XET_CACHE": str(call.scratch / "xet"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_ETAG_TIMEOUT": os.environ.get("HF_HUB_ETAG_TIMEOUT", "20"),
    }


def offline() -> bool:
    """Whether the caller forbids the hub's libraries to use the network (HF_HUB_OFFLINE)."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


@contextmanager
def explained(repo: Repo, name: str, revision: str) -> Iterator[None]:
    """Turn the hub libraries' failures into one clear line each; StageError of kind `model` or `data`."""
    from huggingface_hub import errors
    from requests.exceptions import RequestException

    try:
        yield
    except errors.GatedRepoError:
        raise _error(
            repo,
            f"the {repo} {name!r} is gated: {endpoint()} gives it only to accounts that accepted its terms",
            "accept the terms on its page and set HF_TOKEN",
        ) from None
    except errors.RevisionNotFoundError:
        message = f"the {repo} {name!r} has no revision {revision!r} at {endpoint()}"
        raise _error(repo, message, "a branch, a tag or a full commit hash") from None
    except errors.RepositoryNotFoundError:
        message = f"no {repo} {name!r} at {endpoint()}, or it is private"
        raise _error(repo, message, "check its spelling, or set HF_TOKEN where it is private") from None
    except errors.HFValidationError as error:
        raise _error(repo, f"{name!r} can't be the name of a {repo} on the hub: {error}", "") from None
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        if offline():
            raise not_cached(repo, name, revision) from None
        raise unreachable(repo, name, error) from None
    except (RequestException, TimeoutError, ConnectionError) as error:
        raise unreachable(repo, name, error) from None


def unreachable(repo: Repo, name: str, error: BaseException) -> StageError:
    """The hub did not answer, or answered with a fault of its own."""
    response = getattr(error, "response", None)
    what = f"can't be reached ({_cause(error)})" if response is None else f"answered with status {response.status_code}"
    message = f"can't get the {repo} {name!r}: the hub at {endpoint()} {what}"
    return _error(repo, message, "HF_ENDPOINT names another hub")


def not_cached(repo: Repo, name: str, revision: str) -> StageError:
    """HF_HUB_OFFLINE is set and the caller's cache lacks what was asked."""
    message = f"the {repo} {name!r} (revision {revision}) is not complete in the local cache, and HF_HUB_OFFLINE is set"
    return _error(repo, message, "unset HF_HUB_OFFLINE to fetch it")


def _error(repo: Repo, message: str, hint: str) -> StageError:
    kind: Literal["model", "data"] = "model" if repo == "model" else "data"
    return StageError(message, hint="; ".join(part for part in (hint, WAY_OUT[repo]) if part), kind=kind)


def _cause(error: BaseException) -> str:
    """The innermost cause in a few words: the outer ones repeat it, wrapped in addresses of objects."""
    inner: BaseException = error
    while (deeper := _inside(inner)) is not None:
        inner = deeper
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    text = str(inner).splitlines()[0] if str(inner) else type(inner).__name__
    # urllib3 names its connection object before what happened to it: "<HTTPConnection(…) at 0x…>: what happened".
    return text.rpartition(">: ")[2] or type(inner).__name__


def _inside(error: BaseException) -> BaseException | None:
    if error.__cause__ is not None:
        return error.__cause__
    for candidate in (getattr(error, "reason", None), *error.args):
        if isinstance(candidate, BaseException):
            return candidate
    return error.__context__ if isinstance(error.__context__, OSError) else None


def folder_bytes(folder: Path) -> int:
    """Size of all files under a folder that others may be changing meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += 0 if path.is_symlink() or not path.is_file() else path.stat().st_size
        except FileNotFoundError:
            continue
    return total
