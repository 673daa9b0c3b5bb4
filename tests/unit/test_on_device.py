"""scripts/on_device.py: its exit code says whether the device, the lock or the bundle is at fault."""

from __future__ import annotations

import importlib.util
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from portwright.project import this_project


def script() -> ModuleType:
    path = this_project().root / "scripts" / "on_device.py"
    spec = importlib.util.spec_from_file_location("on_device", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = script()
Ends = Callable[[int, int], None]


def bundle(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("_", "."), text)
    return path


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Ends:
    """Give pip and the runner the codes that they end with."""

    def with_codes(pip: int, runner: int) -> None:
        def run(command: list[Any], *, check: bool, **_: object) -> subprocess.CompletedProcess[str]:
            code = pip if "pip" in command else runner
            if check and code:
                raise subprocess.CalledProcessError(code, command)
            return subprocess.CompletedProcess(command, code)

        monkeypatch.setattr(SCRIPT.subprocess, "run", run)
        monkeypatch.setattr(SCRIPT.venv, "create", lambda *_, **__: None)

    return with_codes


@pytest.mark.parametrize(
    ("pip", "runner", "code"),
    [(0, 0, 0), (0, 1, 1), (0, 2, 2), (1, 0, 2), (0, -11, 1)],
    ids=["well", "a gate failed", "wrong bundle", "the lock can't be installed", "the driver took the process down"],
)
def test_the_code_says_who_is_at_fault(tmp_path: Path, ends: Ends, pip: int, runner: int, code: int) -> None:
    ends(pip, runner)
    made = bundle(tmp_path / "b.zip", bundle_json="{}", requirements_txt="")
    assert SCRIPT.main([str(made), f"--out={tmp_path / 'out'}"]) == code


@pytest.mark.parametrize("files", [{}, {"bundle_json": "{}"}, {"bundle_json": "no JSON"}, {"bundle_json": "[]"}])
def test_what_is_no_bundle_is_wrong(tmp_path: Path, ends: Ends, files: dict[str, str]) -> None:
    ends(0, 0)
    assert SCRIPT.main([str(bundle(tmp_path / "b.zip", **files)), f"--out={tmp_path / 'out'}"]) == 2
