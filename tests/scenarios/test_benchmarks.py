"""The benchmarks as processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.processes import ROOT

pytestmark = pytest.mark.scenario
NESTED = """
import sys, tempfile
from pathlib import Path
from benchmarks.processes import leaving_in_order, timed
with leaving_in_order(), tempfile.TemporaryDirectory(dir=sys.argv[1]) as folder:
    child = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
    timed([sys.executable, "-c", child, str(Path(folder, "here"))])
"""


def test_an_ended_measurement_takes_its_child_and_its_folder_with_it(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", NESTED, str(tmp_path)], cwd=ROOT) as measuring:
        deadline = time.monotonic() + 30
        while not (found := [path for path in tmp_path.glob("*/here") if path.read_text()]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        child = int(found[0].read_text())
        measuring.terminate()
    assert measuring.returncode == 143
    assert not list(tmp_path.iterdir())
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_benchmark_that_is_ended_leaves_nothing(tmp_path: Path, how: signal.Signals) -> None:
    """SIGTERM reaches the suite alone, Ctrl-C all that the terminal runs."""
    command = [sys.executable, "-m", "benchmarks", "scale", "--repeats=1"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("portwright-bench-*/*")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        if how == signal.SIGTERM:
            process.terminate()
        else:
            os.killpg(process.pid, how)
        assert process.wait(60) == 128 + how
    assert list(tmp_path.iterdir()) == []
