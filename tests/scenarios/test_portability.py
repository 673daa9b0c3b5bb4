"""The host, and what runs stages without Docker, start where Unix's own modules are missing, as on Windows."""

from __future__ import annotations

import subprocess
import sys

from support.commands import ROOT

# Third parties import what they like: they are for Windows themselves. Only our own imports are refused.
REFUSING = """
import builtins, importlib, os, pathlib, sys

sys.path[:0] = [".", "shared"]
for name in ("docker", "filelock", "invoke", "matplotlib.pyplot", "numpy", "pydantic", "requests", "rich.live", "uv"):
    importlib.import_module(name)

UNIX = {"fcntl", "resource", "pwd", "grp", "termios", "pty", "tty"}
real = builtins.__import__

def refuse(name, globals=None, *rest):
    importer = (globals or {}).get("__name__", "")
    if name in UNIX and importer.split(".")[0] in {"portwright", "stagelib", "tasks"}:
        raise ModuleNotFoundError(f"No module named {name!r} (on Windows), imported by {importer}", name=name)
    return real(name, globals, *rest)

builtins.__import__ = refuse
for name in ("getuid", "geteuid", "getgid", "getegid", "killpg", "getppid", "waitid", "uname", "chown",
             "sched_getaffinity", "sched_setaffinity", "getloadavg", "O_DIRECTORY"):
    if hasattr(os, name):
        delattr(os, name)

def modules(root, package):
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

names = ["tasks", *modules(pathlib.Path("."), "portwright"), *modules(pathlib.Path("shared"), "stagelib")]
for name in names:
    try:
        importlib.import_module(name)
    except ImportError as error:
        # On the host no vendor's package is installed; a runtime or a library module may want one at its top.
        if error.name in UNIX or not name.startswith("stagelib.") or name.startswith("stagelib.stages."):
            raise
from stagelib.machine import allowed_cpus, describe_machine
assert allowed_cpus() and describe_machine()["load_average"] is None
print(len(names), "modules")
"""


def test_no_module_needs_unix_to_be_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", REFUSING], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) > 50


def test_the_refusal_is_real() -> None:
    spoiled = REFUSING.replace(
        'names = ["tasks"', 'refuse("fcntl", {"__name__": "portwright.engines.venv"})\nnames = ["tasks"'
    )
    done = subprocess.run(
        [sys.executable, "-c", spoiled], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert "imported by portwright.engines.venv" in done.stderr
