"""Making what suites measure: a recipe's artifacts without its measurements, and finding them in the store."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import INVOKE, ROOT, Cost, succeeded, timed
from portwright.project import ARTIFACTS_VARIABLE, this_project
from portwright.store import Artifact, Store

TEXTS = ROOT / "examples" / "texts.jsonl"


@dataclass(frozen=True, kw_only=True)
class Made:
    """What one `invoke run --make-only` made of a recipe, and what it took."""

    cost: Cost
    store: Store
    package: Artifact

    @property
    def executed(self) -> Artifact:
        """What the package's golden vectors were made by: what ships, or what that was compiled from."""
        artifact = self.store.get(self.package.manifest.components["inputs"]["executable"])
        assert artifact is not None
        return artifact

    def before(self, stage: str) -> Artifact:
        """The artifact of a stage that the package was made from, however far back; KeyError where there is none."""
        waiting = [self.package]
        while waiting:
            artifact = waiting.pop()
            if artifact.manifest.stage == stage:
                return artifact
            keys = artifact.manifest.components["inputs"].values()
            waiting += [found for key in keys if (found := self.store.get(key))]
        raise KeyError(stage)


def make(target: str, recipe: str, model: str | Path, texts: Path, volume: Path | None = None) -> Made:
    """Make a recipe in virtual environments, on another host volume if one is named; RuntimeError where that fails."""
    command = [*INVOKE, "run", f"--target={target}", f"--recipe={recipe}", "--make-only", "--engine=venv"]
    root = volume or this_project().artifacts
    cost = timed([*command, f"--model={model}", f"--data={texts}"], {ARTIFACTS_VARIABLE: str(root)})
    succeeded(cost, f"making {recipe}")
    store = Store(root)
    package = store.get(package_key(cost.out, recipe))
    assert package is not None
    return Made(cost=cost, store=store, package=package)


def package_key(out: str, recipe: str) -> str:
    """The key in what `invoke run --make-only` printed; RuntimeError where it stands nowhere."""
    found = re.search(rf"^{re.escape(recipe)}: made, .*, not judged: (.+)$", out, re.MULTILINE)
    if not found:
        raise RuntimeError(f"{recipe} was not made:\n{out}")
    return Path(found[1]).parent.name
