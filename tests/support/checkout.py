"""A copy of this checkout that a test may change: another target, another toolchain, another stage."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.commands import ROOT, Portwright, read_json

BRIEF = {"warmup_max": 5, "min_runs": 3, "min_seconds": 0.1, "sustained_seconds": 0, "search_seconds": 0}
"""A benchmark no longer than it takes to see that it works: of the default settings alone, and nothing sustained."""
EVERY_PASS = BRIEF | {"sustained_seconds": 0.2, "search_seconds": 0.2}
FEW_TEXTS = 24
FEW_EMULATED = 2
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


def brief_checkout(folder: Path, portwright: Portwright, benchmark: Mapping[str, Any] = BRIEF) -> Portwright:
    """A copy whose recipes differ in their measurements alone: brief benchmarks, and fewer texts judged or emulated."""
    copy = copy_checkout(folder, portwright)
    for path in copy.root.glob("targets/*/recipes/*.json"):
        recipe = read_json(path)
        recipe["evaluation"]["samples"] = FEW_TEXTS
        path.write_text(json.dumps(recipe | {"benchmark": benchmark}))
    for path in copy.root.glob("targets/*/target.toml"):
        # A target's other tables have no key of that name.
        path.write_text(re.sub(r"^samples = \d+$", f"samples = {FEW_EMULATED}", path.read_text(), flags=re.MULTILINE))
    return copy
