"""The benchmarks as processes."""

from __future__ import annotations

import os
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
from benchmarks.processes import timed
with tempfile.TemporaryDirectory(dir=sys.argv[1]) as folder:
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
