"""Unit tests reach nothing outside the process: an attempt to is an error, not a slow test."""

from __future__ import annotations

import socket
import subprocess
from typing import Any, NoReturn

import pytest


@pytest.fixture(autouse=True)
def no_outside_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker (a socket), child processes and the network raise."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        pytest.fail("a unit test tried to start a process or to open a connection")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
