"""What many scenarios start from, made once a session by `invoke run --make-only`: a model's export, and no more."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from portwright.store import FILES, MANIFEST, Store
from support.commands import ROOT, Portwright, read_json

FP32 = ROOT / "targets" / "cpu" / "recipes" / "bert-base-portuguese-cased_fp32_cpu.json"
SOURCES = ("synthesize", "export")
"""The stages whose artifacts are handed on. All that follows them, every test makes itself."""


@dataclass(frozen=True)
class Seeds:
    """Host volumes, one for each model and opset, that all of a session's processes share."""

    root: Path
    venvs: Path
    texts: Path

    def hand_on(self, portwright: Portwright, model: Path | str, *opsets: int) -> None:
        """Put a model's exports into the store of a test, as an earlier run of that test's would have left them."""
        store = Store(portwright.artifacts)
        for opset in opsets:
            volume = self._volume(model, opset)
            for key, stage in made(volume).items():
                if stage in SOURCES:
                    shutil.copytree(Store(volume).path(key), store.path(key), copy_function=os.link)

    def export(self, model: Path | str, opset: int) -> Path:
        """The folder of a model's export, which nobody may write to."""
        volume = self._volume(model, opset)
        [key] = [key for key, stage in made(volume).items() if stage == "export"]
        return Store(volume).path(key) / FILES

    def _volume(self, model: Path | str, opset: int) -> Path:
        """The volume with a model's export, which is made if it isn't there."""
        folder = self.root / f"{Path(str(model).replace(':', '-')).name}-{opset}"
        folder.mkdir(parents=True, exist_ok=True)
        artifacts, ready = folder / "artifacts", folder / "ready"
        with FileLock(folder / "lock"):
            if not ready.is_file():
                artifacts.mkdir()
                self.venvs.mkdir(parents=True, exist_ok=True)
                (artifacts / "venvs").symlink_to(self.venvs)
                recipe = folder / "seed.json"
                recipe.write_text(json.dumps(_recipe(opset)))
                options = ("--target=cpu", f"--recipe={recipe}", f"--model={model}", f"--data={self.texts}")
                done = Portwright(artifacts).run("run", *options, "--make-only", "--engine=venv")
                assert done.code == 0, done.text
                ready.touch()
        return artifacts


def made(volume: Path) -> dict[str, str]:
    """Every key in the store of a volume, with its stage."""
    store = Store(volume)
    return {key: read_json(store.path(key) / MANIFEST)["stage"] for key in sorted(store.keys())}


def _recipe(opset: int) -> dict[str, object]:
    """The fp32 recipe at that opset, on a handful of texts: those are not handed on."""
    recipe: dict[str, object] = read_json(FP32)
    del recipe["accuracy"]
    return recipe | {
        "name": "seed",
        "stages": [{"stage": "export", "opset": opset}, {"stage": "fix_shape"}],
        "evaluation": {"data": "xnli", "field": "premise", "samples": 1},
        "gates": {"similarity": {"mean": 0.9}, "placement": {"on": ["CPUExecutionProvider"]}},
    }
