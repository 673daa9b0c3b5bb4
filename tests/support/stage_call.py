"""Running one stage through its real door, `python -m stagelib CALL.json`, in a toolchain's interpreter."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from portwright.project import this_project

DEADLINE_S = 300
HUB_VARIABLES = ("HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE", "HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE")


@dataclass(frozen=True)
class Finished:
    """What a stage reported, and where its artifact lies."""

    report: Mapping[str, Any]
    output: Path
    events: tuple[Mapping[str, Any], ...]

    @property
    def facts(self) -> Mapping[str, Any]:
        assert self.report["ok"], self.report
        facts: Mapping[str, Any] = self.report["facts"]
        return facts

    @property
    def failure(self) -> tuple[str, str, str]:
        """Kind, message and hint of a stage that said no."""
        assert not self.report["ok"], self.report
        return self.report["kind"], self.report["message"], self.report["hint"]


@dataclass
class Stages:
    """Runs stages in one interpreter; each call gets folders of its own under `root`."""

    root: Path
    python: Path = field(default_factory=lambda: Path(sys.executable))
    environment: Mapping[str, str] = field(default_factory=dict)
    _calls: int = 0

    def run(
        self,
        stage: str,
        params: Mapping[str, Any],
        inputs: Mapping[str, Path] | None = None,
        *,
        network: bool = False,
        cache: Path | None = None,
    ) -> Finished:
        """Run a stage to its end, well or badly."""
        self._calls += 1
        folder = self.root / f"{self._calls:02d}-{stage}"
        for name in ("output", "scratch", "fills"):
            (folder / name).mkdir(parents=True)
        call = {
            "stage": stage,
            "params": dict(params),
            "inputs": {role: str(path) for role, path in (inputs or {}).items()},
            "output": str(folder / "output"),
            "scratch": str(folder / "scratch"),
            "result": str(folder / "result.json"),
            "network": network,
            "deadline_s": DEADLINE_S,
            "fills": str(folder / "fills"),
            "cache": str(cache) if cache else None,
        }
        (folder / "call.json").write_text(json.dumps(call))
        shown = self._process(folder)
        assert (folder / "result.json").is_file(), shown.stderr
        report = json.loads((folder / "result.json").read_text())
        for name, (role, source) in report.get("passed", {}).items():  # as the host does
            target = folder / "output" / name
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile((inputs or {})[role] / source, target)
        assert shown.returncode == (0 if report["ok"] else 1), shown.stderr
        return Finished(report, folder / "output", tuple(json.loads(line) for line in shown.stdout.splitlines()))

    def _process(self, folder: Path) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if name not in HUB_VARIABLES}
        return subprocess.run(
            [str(self.python), "-m", "stagelib", str(folder / "call.json")],
            env={**inherited, "PYTHONPATH": str(this_project().shared), **self.environment},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
