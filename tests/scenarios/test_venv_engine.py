"""The venv engine's processes: nothing of a stage or of uv outlives its run, and a missing Python is said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from portwright.engines import venv
from portwright.engines.base import Event, Job
from portwright.engines.call import TIMED_OUT
from portwright.engines.child import running
from portwright.engines.venv import VenvEngine
from portwright.errors import EngineError, InterruptedRunError, StageFailedError
from portwright.packages import PackageSettings
from portwright.project import this_project
from portwright.toolchain import Toolchain, load_toolchains
from support.commands import ROOT

PROJECT = this_project()
LEAVER = """
import subprocess, sys
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
"""
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
PREPARE = """
import sys
from pathlib import Path
from portwright.engines import venv
from portwright.packages import PackageSettings
from portwright.toolchain import Toolchain
venv.uv.find_uv_bin = lambda: sys.argv[1]
def terminate(*_):
    raise KeyboardInterrupt
__import__("signal").signal(15, terminate)
folder = Path(sys.argv[2])
engine = venv.VenvEngine(folder, folder / "venvs", PackageSettings())
engine.prepare(Toolchain("t", folder / "docker" / "t"), lambda event: print(event.text, flush=True))
"""
SLOW_UV = """#!/bin/sh
echo "$$"
sleep 600
"""


def gone(pid: int) -> bool:
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_what_a_child_left_behind_ends_with_it(tmp_path: Path) -> None:
    started = time.monotonic()
    with running([sys.executable, "-c", LEAVER], {}, cwd=tmp_path) as child:
        [left] = list(child.lines())
        assert child.end() == 0
    assert gone(int(left))
    assert time.monotonic() - started < 30


def test_a_child_ends_with_its_context(tmp_path: Path) -> None:
    with running([sys.executable, "-c", DEAF], {}, cwd=tmp_path) as child:
        assert next(child.lines()) == "up\n"
    assert gone(child.pid)


def test_a_deadline_is_no_want_of_memory(tmp_path: Path) -> None:
    with running([sys.executable, "-c", DEAF], {}, cwd=tmp_path, deadline_s=1.0) as child:
        assert list(child.lines()) in ([], ["up\n"])
        assert child.end() == TIMED_OUT


def test_a_stage_that_misses_its_deadline(
    toolchain_python: Callable[[str], Path], venvs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toolchain_python("ort")
    stages = tmp_path / "shared" / "stagelib" / "stages"
    stages.mkdir(parents=True)
    # An interpreter that never answers its own deadline.
    (stages.parent / "__main__.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr(venv, "GRACE_S", 0.5)
    engine = VenvEngine(tmp_path / "shared", venvs, PackageSettings())
    (tmp_path / "work" / "out").mkdir(parents=True)
    job = Job(
        stage="sleeper",
        params={},
        inputs={},
        output=tmp_path / "work" / "out",
        log=tmp_path / "log",
        label="t/sleeper",
        deadline_s=1.0,
    )
    with pytest.raises(StageFailedError, match="still running after 1 s"):
        engine.run(load_toolchains(PROJECT.docker)["ort"], job, lambda _: None)


SILENT = """
import os, pathlib, time
(pathlib.Path({folder!r}) / f"pid-{{os.getpid()}}").touch()
time.sleep(600)
"""


def test_an_engine_that_is_stopped_leaves_no_stage(
    toolchain_python: Callable[[str], Path], venvs: Path, tmp_path: Path
) -> None:
    """Stages of two threads, which say nothing and would never end."""
    toolchain_python("ort")
    library = tmp_path / "shared" / "stagelib"
    library.mkdir(parents=True)
    (library / "__main__.py").write_text(SILENT.format(folder=str(tmp_path)))
    engine = VenvEngine(tmp_path / "shared", venvs, PackageSettings())
    ended: list[Exception] = []

    def run(number: int) -> None:
        output = tmp_path / f"work{number}" / "output"
        output.mkdir(parents=True, exist_ok=True)
        job = Job(stage="s", params={}, inputs={}, output=output, log=tmp_path / f"log{number}", label="t/s")
        try:
            engine.run(load_toolchains(PROJECT.docker)["ort"], job, lambda _: None)
        except (StageFailedError, InterruptedRunError) as error:
            ended.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 60
    while len(pids := [int(path.name[4:]) for path in tmp_path.glob("pid-*")]) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    assert len(pids) == 2
    engine.stop()
    for thread in threads:
        thread.join(30)
    assert [type(error) for error in ended] == [StageFailedError, StageFailedError]
    assert all(gone(pid) for pid in pids)
    assert [path.name for path in tmp_path.glob("work*/call-*")] == []
    run(0)
    assert isinstance(ended[-1], InterruptedRunError)


@pytest.fixture
def toolchain(tmp_path: Path) -> Toolchain:
    folder = tmp_path / "docker" / "t"
    folder.mkdir(parents=True)
    (tmp_path / "docker" / "base").mkdir()
    (folder / "requirements.lock").touch()
    return Toolchain("t", folder)


@pytest.fixture
def preparing(toolchain: Toolchain, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that prepares a toolchain with a uv that never ends."""
    assert toolchain.name == "t"
    slow = tmp_path / "uv"
    slow.write_text(SLOW_UV)
    slow.chmod(0o755)
    with subprocess.Popen(
        [sys.executable, "-c", PREPARE, str(slow), str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as child:
        yield child
        child.kill()


def first_line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_uv_ends_with_a_run_that_is_stopped(preparing: subprocess.Popen[str], how: signal.Signals) -> None:
    pid = int(first_line(preparing))
    preparing.send_signal(how)
    preparing.wait(30)
    assert gone(pid)


def test_the_next_run_waits_for_a_killed_runs_uv(
    preparing: subprocess.Popen[str], toolchain: Toolchain, tmp_path: Path
) -> None:
    pid = int(first_line(preparing))
    preparing.kill()
    preparing.wait(30)
    assert not gone(pid)
    said: list[str] = []

    def heard(event: Event) -> None:
        if not said:
            os.killpg(pid, signal.SIGKILL)
        said.append(event.text)

    engine = VenvEngine(tmp_path, tmp_path / "venvs", PackageSettings())
    assert engine.prepare(toolchain, heard) is True
    assert said[0] == "another run makes this environment: waiting for it"


def test_a_machine_without_the_locked_python_is_told_so(
    toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(venv, "LOCKED_PYTHON", "3.99")
    engine = VenvEngine(tmp_path, tmp_path / "venvs", PackageSettings())
    with pytest.raises(EngineError) as caught:
        engine.prepare(toolchain, lambda _: None)
    assert "the toolchain locks are for Python 3.99, which isn't on this machine" in str(caught.value)
    assert "--engine=docker" in str(caught.value)


def test_a_user_without_a_home_gets_an_environment(
    toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    engine = VenvEngine(tmp_path, tmp_path / "venvs", PackageSettings())
    assert engine.prepare(toolchain, lambda _: None) is True
    assert not (tmp_path / ".uv_cache").exists()
