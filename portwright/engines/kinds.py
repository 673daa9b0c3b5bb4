"""The kinds of engine, by name. What they are stands in their own modules, which a plan doesn't import."""

from __future__ import annotations

from typing import Literal, get_args

from portwright.errors import UsageError
from portwright.naming import suggestion

EngineKind = Literal["docker", "venv"]
ENGINE_KINDS: tuple[EngineKind, ...] = get_args(EngineKind)


def parse_kind(text: str | None) -> EngineKind | None:
    """`--engine` as given; UsageError for an unknown one."""
    if text is None:
        return None
    for kind in ENGINE_KINDS:
        if text == kind:
            return kind
    raise UsageError(f"unknown engine {text!r}", hint=suggestion(text, ENGINE_KINDS))
