"""How tests are shared out to the workers of pytest-xdist."""

from __future__ import annotations

from typing import Any

ENGINE = "docker"


def scheduler(config: Any, log: Any) -> Any:
    """A file goes to one worker whole, and so does all that uses the Docker engine.

    Those tests count the engine's containers and remove its images: they are one user's. (xdist has groups for that,
    but marks them by a private attribute that pytest 9 no longer reads.)
    """
    from xdist.scheduler import LoadScopeScheduling

    made = LoadScopeScheduling(config, log)
    made._split_scope = scope
    return made


def scope(nodeid: str) -> str:
    """What goes to one worker together, by the name of a test of it."""
    path, _, test = nodeid.partition("::")
    return ENGINE if path.startswith("tests/docker/") or test.endswith(f"{ENGINE}]") else path
