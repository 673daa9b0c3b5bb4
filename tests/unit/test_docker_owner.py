"""Whose a container is, whether its owner lives, and what its user may read."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import requests
from docker.errors import APIError, NotFound

from portwright.disk import storage_error
from portwright.engines import docker_owner
from portwright.engines.docker_owner import (
    DEADLINE_LABEL,
    OWNER_LABEL,
    container_user,
    is_dead,
    labels,
    may_read,
    readable,
    reap,
    this_owner,
)
from portwright.errors import EngineError

NOT_FOUND = 404


def test_what_this_process_owns_is_alive() -> None:
    assert is_dead(labels(-1e6)) is False


def test_a_process_that_is_gone_or_another_is_dead() -> None:
    machine, pid, started = this_owner().split(":")
    assert is_dead({OWNER_LABEL: f"{machine}:{pid}:{int(started) + 1}"}) is True
    assert is_dead({OWNER_LABEL: f"{machine}:999999999:1"}) is True


@pytest.mark.parametrize(
    "owner",
    # Workers must agree on a test's name: no process's number in it.
    ["another:1:1", "another", "", pytest.param(f"another:{os.getpid()}:1", id="another's process of our number")],
)
def test_another_machines_are_judged_by_their_deadline_alone(owner: str) -> None:
    assert is_dead({OWNER_LABEL: owner, DEADLINE_LABEL: labels(60.0)[DEADLINE_LABEL]}) is False
    assert is_dead({OWNER_LABEL: owner, DEADLINE_LABEL: "1"}) is True
    assert is_dead({OWNER_LABEL: owner}) is False


def test_where_machines_can_not_be_told_apart_the_deadline_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_owner, "_machine", lambda: docker_owner.UNKNOWN)
    monkeypatch.setattr(docker_owner, "_started", lambda _: "")
    assert is_dead(labels(-1e6)) is True
    assert is_dead(labels(60.0)) is False
    assert is_dead({**labels(60.0), OWNER_LABEL: f"{docker_owner.UNKNOWN}:1:1"}) is False


class Left:
    """What a killed run left on an engine, removed by another run meanwhile or not."""

    labels: ClassVar[dict[str, str]] = {DEADLINE_LABEL: "1"}

    def __init__(self, status: int | None) -> None:
        self._status = status

    def remove(self, *, force: bool) -> None:
        assert force
        if self._status is not None:
            response = requests.Response()
            response.status_code = self._status
            raise (NotFound if self._status == NOT_FOUND else APIError)("no", response=response)


def reaped(*status: int | None) -> int:
    containers = SimpleNamespace(list=lambda **_: [Left(item) for item in status])
    client: Any = SimpleNamespace(containers=containers, volumes=SimpleNamespace(list=lambda **_: []))
    return reap(client)


def test_what_another_run_is_removing_is_no_error() -> None:
    assert reaped(NOT_FOUND, None, 409) == 1
    with pytest.raises(EngineError):
        reaped(500)


def test_a_root_caller_is_not_root_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setattr(os, "getgid", lambda: 0)
    assert container_user(rootless=False) == (65534, 65534)
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setattr(os, "getgid", lambda: 100)
    assert container_user(rootless=False) == (1000, 100)
    assert container_user(rootless=True) == (0, 0)


@pytest.mark.parametrize(
    ("mode", "user", "expected"),
    [
        (0o600, "owner", True),
        (0o640, "group", True),
        (0o604, "other", True),
        (0o640, "other", False),
        (0o604, "group", False),
        (0o044, "owner", False),
    ],
)
def test_the_first_class_that_fits_decides(tmp_path: Path, mode: int, user: str, *, expected: bool) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    uid, gid = path.stat().st_uid, path.stat().st_gid
    who = {"owner": (uid, gid), "group": (uid + 7, gid), "other": (uid + 7, gid + 7)}[user]
    # 0 stands for a rootless engine's caller.
    assert may_read(path, who) is (expected or who[0] == 0)


def test_a_private_file_deep_in_a_folder_is_copied_and_nothing_else(tmp_path: Path) -> None:
    stranger = (os.getuid() + 7, os.getgid() + 7)
    model = tmp_path / "model"
    (model / "deep").mkdir(parents=True)
    for folder in (model, model / "deep"):
        folder.chmod(0o755)
    (model / "deep" / "weights").write_text("weights")
    (model / "deep" / "weights").chmod(0o644)
    assert readable(model, stranger, tmp_path / "spare") == model
    (model / "deep" / "weights").chmod(0o600)
    copy = readable(model, stranger, tmp_path / "spare")
    assert copy == tmp_path / "spare"
    assert (copy / "deep" / "weights").stat().st_mode & 0o777 == 0o400
    assert (model / "deep" / "weights").stat().st_mode & 0o777 == 0o600


def test_a_copy_that_the_disk_has_no_room_for_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source), None, str(target))

    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").touch(mode=0o600)
    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left") as caught:
        readable(model, (os.getuid() + 7, os.getgid() + 7), tmp_path / "spare")
    assert caught.value.errno == errno.ENOSPC
    error = storage_error(tmp_path, caught.value)
    assert str(tmp_path / "spare" / "weights") in str(error)
    assert str(model / "weights") not in str(error)
