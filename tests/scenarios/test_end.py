"""A stage's process ends at once, and loses nothing that it or native code has printed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from portwright.project import this_project

pytestmark = pytest.mark.scenario
ENDING = """
import ctypes, sys
from stagelib.__main__ import _end
print("from Python")
ctypes.CDLL(None).printf(b"from native code")
_end(3)
"""


def test_what_was_printed_is_written_before_the_end() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment["PYTHONPATH"] = str(this_project().shared)
    done = subprocess.run(
        [sys.executable, "-c", ENDING], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (3, "from Python\nfrom native code")
