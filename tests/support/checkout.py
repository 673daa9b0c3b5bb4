"""A copy of this checkout that a test may change: another target, another toolchain, another stage."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from support.commands import ROOT, Portwright

PARTS = ("portwright", "shared", "docker", "device", "targets", "schemas", "tasks.py")


def copy_checkout(folder: Path, portwright: Portwright) -> Portwright:
    """The commands of a checkout in `folder`, on the same host volume."""
    folder.mkdir()
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, folder / part)
    return dataclasses.replace(portwright, root=folder)
