"""What is checked on the device before anything is measured: files, platform, packages, placement."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stagelib.digests import digest_files
from stagelib.machine import versions
from stagelib.placement import Rule, judge_executed
from stagelib.runner.contents import REQUIREMENTS, Contents

if TYPE_CHECKING:
    from stagelib.runtimes.base import ExecutedOn, Session

SHOWN = 5
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)(?:\s*;\s*([^\\]+))?", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at. `passed` is None where nothing here can tell."""

    name: str
    passed: bool | None
    text: str
    limit: float | None = None
    found: float | None = None

    def line(self) -> str:
        mark = {True: "ok  ", False: "FAIL", None: "?   "}[self.passed]
        return f"{mark} {self.name}: {self.text}"


def check_files(root: Path, contents: Contents) -> Check:
    """Every file against the digest that the bundle was made with."""
    faults = []
    for name, entry in contents.files.items():
        path = root / name
        if not path.is_file():
            faults.append(f"{name} is missing")
        elif path.stat().st_size != entry.size:
            faults.append(f"{name} has {path.stat().st_size} bytes and had {entry.size}")
        elif digest_files(path) != entry.sha256:
            faults.append(f"{name} is damaged (SHA-256 differs)")
    if faults:
        more = f", and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        return Check(name="files", passed=False, text="; ".join(faults[:SHOWN]) + more + ": unpack the bundle again")
    size = sum(entry.size for entry in contents.files.values())
    return Check(name="files", passed=True, text=f"{len(contents.files)} files, {size / 1e6:.1f} MB, all as packed")


def check_platform(contents: Contents) -> Check:
    """This machine against the platform that the bundle is for."""
    system, machine = platform.system(), platform.machine()
    fits = system.lower() == contents.system and machine.lower() in contents.machines
    text = f"{system} {machine}" + ("" if fits else f", and this bundle is for {contents.platform}")
    return Check(name="platform", passed=fits, text=text)


def check_packages(root: Path, contents: Contents) -> Check:
    """Installed distributions against requirements.txt."""
    if not (root / REQUIREMENTS).is_file():
        return Check(name="packages", passed=None, text=f"not locked: {contents.environment}")
    faults, right = [], 0
    for name, version, marker in _PIN.findall((root / REQUIREMENTS).read_text(encoding="utf-8")):
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if not marker:
                faults.append(f"{name} is not installed")
            continue
        if found != version:
            faults.append(f"{name} is {found} instead of {version}")
        right += found == version
    if faults:
        hint = f"python -m pip install --require-hashes --no-deps -r {REQUIREMENTS}"
        return Check(name="packages", passed=False, text=f"{'; '.join(faults[:SHOWN])}: {hint}")
    return Check(name="packages", passed=True, text=f"{right} as locked, Python {platform.python_version()}")


def locked_versions(root: Path) -> dict[str, str]:
    """Versions of the installed distributions that requirements.txt names; empty where there is no such file."""
    path = root / REQUIREMENTS
    return versions(name for name, _, _ in _PIN.findall(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def check_placement(contents: Contents, session: Session, executed_on: ExecutedOn) -> Check:
    """Where the runtime put the graph, against the recipe's gate."""
    gate: Mapping[str, Any] = contents.gates["placement"]
    rule = Rule(
        on=tuple(gate["on"]),
        min_share=gate["min_share"],
        stand_in=tuple(gate["stand_in"]),
        may_stay_on_cpu=tuple(gate["may_stay_on_cpu"]),
    )
    judged = judge_executed(rule, session.placement(), on_cpu=executed_on == "cpu", told="nothing here places it so")
    return Check(
        name="placement", passed=judged.passed, text=judged.reason, limit=judged.limit, found=round(judged.share, 6)
    )
