"""A stand-in for the Hugging Face hub on loopback: one model and one dataset repository, and the faults a hub can show.

It speaks as much of the hub's protocol as `huggingface_hub` and `datasets` use to resolve, list and read a repository:
repository information, tree listings, path information, and files with commit, ETag and ranges.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

Kind = Literal["model", "dataset"]
_API = re.compile(r"^/api/(?P<kind>model|dataset)s/(?P<rest>.+)$")
_FILE = re.compile(r"^/(?P<dataset>datasets/)?(?P<id>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)$")
_RANGE = re.compile(r"^bytes=(\d+)-(\d*)$")


@dataclass
class Repo:
    """A repository of one commit. `gated` refuses everyone, `broken` answers every request with a server's error."""

    kind: Kind
    id: str
    files: Mapping[str, bytes]
    branch: str = "main"
    gated: bool = False
    broken: bool = False

    @property
    def sha(self) -> str:
        """A commit hash that follows from the content, 40 hexadecimal digits."""
        digest = hashlib.sha1(self.id.encode(), usedforsecurity=False)
        for name in sorted(self.files):
            digest.update(name.encode() + b"\0" + self.files[name])
        return digest.hexdigest()

    def has_revision(self, revision: str) -> bool:
        return revision in {self.branch, self.sha}

    def entry(self, path: str) -> dict[str, Any]:
        """A file or a folder as the listings show it."""
        if path in self.files:
            return {"type": "file", "path": path, "size": len(self.files[path]), "oid": _etag(self.files[path])}
        return {"type": "directory", "path": path, "size": 0, "oid": "0" * 40}

    def listing(self, folder: str, *, recursive: bool) -> list[dict[str, Any]] | None:
        """What lies under a folder, or None where there is no such folder."""
        prefix = f"{folder}/" if folder else ""
        inside = [path for path in sorted(self.files) if path.startswith(prefix)]
        if not inside:
            return None
        folders = {
            prefix + "/".join(parts[:depth]) for parts in _folders(inside, prefix) for depth in range(1, len(parts) + 1)
        }
        paths = sorted([*inside, *folders])
        return [self.entry(path) for path in paths if recursive or "/" not in path.removeprefix(prefix)]

    def info(self) -> dict[str, Any]:
        """The repository as `/api/…` describes it."""
        files = [
            {"rfilename": path, "size": len(self.files[path]), "blobId": _etag(self.files[path])} for path in self.files
        ]
        shown: dict[str, Any] = {
            "id": self.id,
            "sha": self.sha,
            "siblings": files,
            "private": False,
            "gated": self.gated,
        }
        shown |= {"tags": [], "downloads": 0, "likes": 0, "disabled": False}
        if "config.json" in self.files:
            shown["config"] = json.loads(self.files["config.json"])
        return shown


def _folders(paths: list[str], prefix: str) -> list[list[str]]:
    return [path.removeprefix(prefix).split("/")[:-1] for path in paths]


def _etag(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def repo_of(folder: Path, kind: Kind, name: str) -> Repo:
    """A repository of a folder's files."""
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }
    return Repo(kind, name, files)


@dataclass
class StubHub:
    """A context manager: the hub runs inside it, at `url`. `requests` keeps what was asked, as `METHOD path`."""

    repos: list[Repo]
    requests: list[str] = field(default_factory=list)
    _server: ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def find(self, kind: str, name: str) -> Repo | None:
        return next((repo for repo in self.repos if (repo.kind, repo.id) == (kind, name)), None)


class _Handler(BaseHTTPRequestHandler):
    """Answers for one hub."""

    hub: StubHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
        pass

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _answer(self, body: bytes) -> None:
        parts = urlsplit(self.path)
        self.hub.requests.append(f"{self.command} {unquote(parts.path)}")
        # Matched as it came: a revision like refs/pr/1 is one segment, its slashes quoted.
        if match := _API.match(parts.path):
            self._api(match["kind"], match["rest"], parse_qs(parts.query), body)
        elif match := _FILE.match(parts.path):
            kind = "dataset" if match["dataset"] else "model"
            self._file(kind, match["id"], unquote(match["revision"]), unquote(match["path"]))
        else:
            self._fault(404, "", "no such page")

    def _repo(self, kind: str, name: str, revision: str) -> Repo | None:
        """The repository, or None after a fault was answered: unknown, gated, broken, or without that revision."""
        repo = self.hub.find(kind, name)
        if repo is None:
            # The real hub gives an anonymous caller 401 for what doesn't exist, so as not to tell it from private ones.
            self._fault(401, "RepoNotFound", "Repository not found")
        elif repo.broken:
            self._fault(500, "", "internal error")
        elif repo.gated:
            self._fault(401, "GatedRepo", f"Access to {name} is restricted")
        elif not repo.has_revision(revision):
            self._fault(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return repo
        return None

    def _api(self, kind: str, rest: str, query: Mapping[str, list[str]], body: bytes) -> None:
        owner, name, *more = (unquote(segment) for segment in rest.split("/"))
        action = more[0] if more else "revision"
        revision = more[1] if len(more) > 1 else "main"
        repo = self._repo(kind, f"{owner}/{name}", revision)
        if repo is None:
            return
        if action == "revision":
            self._json(repo.info())
        elif action == "tree":
            found = repo.listing("/".join(more[2:]), recursive=query.get("recursive", [""])[0].lower() == "true")
            self._fault(404, "EntryNotFound", "no such folder") if found is None else self._json(found)
        elif action == "paths-info":
            asked = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode())["paths"]
            known = [path for path in asked if path in repo.files or repo.listing(path, recursive=False) is not None]
            self._json([repo.entry(path) for path in known])
        else:
            self._fault(404, "", f"no such action: {action}")

    def _file(self, kind: str, name: str, revision: str, path: str) -> None:
        repo = self._repo(kind, name, revision)
        if repo is None:
            return
        if path not in repo.files:
            self._fault(404, "EntryNotFound", f"no file {path}", commit=repo.sha)
            return
        content = repo.files[path]
        headers = {"X-Repo-Commit": repo.sha, "ETag": f'"{_etag(content)}"', "Accept-Ranges": "bytes"}
        status = 200
        if asked := _RANGE.match(self.headers.get("Range", "")):
            start, end = int(asked[1]), min(int(asked[2] or len(content) - 1), len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            content, status = content[start : end + 1], 206
        self._send(status, content, headers)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _fault(self, status: int, code: str, message: str, commit: str = "") -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message} if code else {"X-Error-Message": message}
        if commit:
            headers["X-Repo-Commit"] = commit
        self._send(status, json.dumps({"error": message}).encode(), {**headers, "Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
