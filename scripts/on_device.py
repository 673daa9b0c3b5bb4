"""Try a bundle on this machine: unpack, install what its lock names, verify, bench. Needs Python alone, no checkout.

`python scripts/on_device.py BUNDLE.zip --out=FOLDER [--device=NAME]`; PORTWRIGHT_BUNDLE, PORTWRIGHT_OUT and
PORTWRIGHT_DEVICE stand in for what is left out, so that a CI step is the same line in every system's shell.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

CONTENTS = "bundle.json"
REQUIREMENTS = "requirements.txt"
INSTALL = ("-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--require-hashes", "--no-deps")
RUNNER = ("-m", "stagelib.runner")
FAILED, WRONG = 1, 2
"""The runner's own: a check or a gate failed; the command or the bundle is wrong, or its lock can't be installed."""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Unpack, install, verify and bench a bundle.")
    parser.add_argument("bundle", type=Path, nargs="?", default=os.environ.get("PORTWRIGHT_BUNDLE"))
    parser.add_argument("--out", type=Path, default=os.environ.get("PORTWRIGHT_OUT", "device-results"))
    parser.add_argument("--device", default=os.environ.get("PORTWRIGHT_DEVICE"), help="a name from bundle.json")
    options = parser.parse_args(argv)
    if options.bundle is None or not zipfile.is_zipfile(options.bundle):
        print(f"error: {options.bundle or 'BUNDLE'} is no zip file, or isn't there", file=sys.stderr)
        return WRONG
    result = options.out.resolve() / "result.json"
    device = [f"--device={options.device}"] if options.device else []
    # Apart from the results: these are uploaded, and the model need not be.
    with tempfile.TemporaryDirectory(prefix="portwright-bundle-", ignore_cleanup_errors=True) as name:
        root = Path(name) / "bundle"
        try:
            with zipfile.ZipFile(options.bundle) as archive:
                archive.extractall(root)
            python = _environment(root)
        except subprocess.CalledProcessError as error:
            print(f"error: can't install what {REQUIREMENTS} names (code {error.returncode})", file=sys.stderr)
            return WRONG
        except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError) as error:
            print(f"error: {options.bundle} can't be unpacked, or is no bundle: {error!r}", file=sys.stderr)
            return WRONG
        # bench verifies first, and ends where that fails.
        code = subprocess.run([python, *RUNNER, "bench", f"--out={result}", *device], cwd=root, check=False).returncode
        if code not in {0, FAILED, WRONG}:
            print(f"error: the runner was ended from outside, or by a driver (code {code})", file=sys.stderr)
            return FAILED
        return code


def _environment(root: Path) -> str:
    """An interpreter with the locked packages; this one where the vendor makes the environment, and it runs us."""
    if not (root / REQUIREMENTS).is_file():
        print(json.loads((root / CONTENTS).read_text(encoding="utf-8"))["environment"])
        return sys.executable
    folder = root.parent / "venv"
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    subprocess.run([python, *INSTALL, "--only-binary", ":all:", "-r", root / REQUIREMENTS], check=True)
    return str(python)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
