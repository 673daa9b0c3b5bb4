"""Which compiled file runs here: the runtime's choice among the variants, or the one that a user names.

A runtime refuses what isn't built for its device, by the compiler's stamp or by what the driver says of it, when it
loads a model: so a model that loads is compatible, as far as anything on the device can tell.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from stagelib.api import StageError
from stagelib.modelinfo import ModelInfo, Variant
from stagelib.runner.checks import Check
from stagelib.runner.contents import DEPLOY
from stagelib.runtimes.base import Session


def check_variants(folder: Path, session: Session) -> Iterator[Check]:
    """One check a compiled file of the folder that was loaded, with what its compiler says that it is good for."""
    loaded = set(session.settings.values())
    for variant in ModelInfo.read(folder).variants:
        built_for = ", ".join(f"{name} {value}" for name, value in variant.built_for.items())
        chosen = variant.entry in loaded
        said = "the runtime chose it for this device" if chosen else "not loaded"
        yield Check(name=f"variant {variant.entry}", passed=chosen or None, text=f"{said}; built for {built_for}")


def deployable(root: Path, entry: str | None, scratch: Path) -> Path:
    """The folder to load: `deploy/`, or one with nothing but the compiled file that `--variant` names."""
    if entry is None:
        return root / DEPLOY
    info = ModelInfo.read(root / DEPLOY)
    for variant in info.variants:
        if variant.entry == entry:
            return _narrowed(root / DEPLOY, info, variant, scratch / "variant")
    known = ", ".join(variant.entry for variant in info.variants) or "none"
    raise StageError(f"deploy/ has no variant {entry!r}", hint=f"known: {known}")


def _narrowed(source: Path, info: ModelInfo, variant: Variant, folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in variant.files:
        try:
            os.link(source / name, folder / name)
        except OSError:
            shutil.copyfile(source / name, folder / name)
    dataclasses.replace(info, entry=variant.entry, files=variant.files, variants=(variant,)).write(folder)
    return folder
