"""Where things lie: the checkout and its host volume."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from portwright.naming import user_path

ARTIFACTS_VARIABLE = "PORTWRIGHT_ARTIFACTS"
VENDOR_VARIABLE = "PORTWRIGHT_VENDOR"


@dataclass(frozen=True)
class Project:
    """A checkout. `artifacts/` in it is the host volume, unless PORTWRIGHT_ARTIFACTS names another folder.

    `vendor/`, likewise, unless PORTWRIGHT_VENDOR does.
    """

    root: Path

    @cached_property
    def artifacts(self) -> Path:
        chosen = os.environ.get(ARTIFACTS_VARIABLE)
        return user_path(chosen).resolve() if chosen else self.root / "artifacts"

    @property
    def docker(self) -> Path:
        return self.root / "docker"

    @property
    def device(self) -> Path:
        """What devices without Docker install."""
        return self.root / "device"

    @property
    def shared(self) -> Path:
        return self.root / "shared"

    @property
    def vendor(self) -> Path:
        """Where the user puts what only vendors hand out."""
        chosen = os.environ.get(VENDOR_VARIABLE)
        return user_path(chosen).resolve() if chosen else self.root / "vendor"

    @property
    def targets(self) -> Path:
        return self.root / "targets"

    @property
    def schemas(self) -> Path:
        return self.root / "schemas"

    def show(self, path: Path) -> str:
        """A path as a user would type it: relative to where they are, if it lies below."""
        try:
            return str(path.resolve().relative_to(Path.cwd()))
        except ValueError:
            return str(path)


def this_project() -> Project:
    """The checkout this package lies in."""
    return Project(Path(__file__).resolve().parent.parent)
