"""`invoke explain`: the first component of each stage's key that differs from the last run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portwright.calls import RecipePlan

ORDER = ("scheme", "source", "params", "toolchain", "device", "inputs")
WORDS = {
    "scheme": "the way keys are made changed",
    "source": "the stage's own source changed",
    "toolchain": "the toolchain changed (Dockerfile, lock, base, or the engine's kind)",
    "device": "the device's driver, its kernel or the machine changed, or was not looked at",
}


def explain_text(plan: RecipePlan, manifest: Mapping[str, Any] | None) -> str:
    """One line a stage of the plan, against the manifest of the last run."""
    title = f"{plan.recipe.name}:"
    if manifest is None:
        return f"{title} never ran on this model"
    earlier: dict[str, list[Mapping[str, Any]]] = {}
    for components in manifest.get("components", {}).values():
        earlier.setdefault(_name(components), []).append(components)
    keys = set(manifest.get("components", {}))
    lines = []
    for call in plan.calls:
        # Two calls of one stage with the same roles stand in the plan's order, then as now.
        before = next(iter(earlier.get(_name(call.components), [])[:1]), None)
        if before is not None:
            earlier[_name(call.components)].pop(0)
        said = "the same key" if call.key in keys else first_difference(before, call.components)
        lines.append(f"  {call.stage}: {said}")
    return "\n".join([title, *lines])


def first_difference(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
    """What changed first, in the order of what a user is likeliest to have done."""
    if before is None:
        return "it was not part of the last run"
    for component in ORDER:
        if before.get(component) == now.get(component):
            continue
        if component in WORDS:
            return WORDS[component]
        names = sorted(name for name in {*before[component], *now[component]} if _differs(before, now, component, name))
        if component == "inputs":
            return f"its input changed: {', '.join(names)}"
        name = names[0]
        return f"parameter {name}: was {before[component].get(name)!r}, is {now[component].get(name)!r}"
    return "nothing differs"


def _differs(before: Mapping[str, Any], now: Mapping[str, Any], component: str, name: str) -> bool:
    return bool(before[component].get(name) != now[component].get(name))


def _name(components: Mapping[str, Any]) -> str:
    """What a call is called across runs: its stage, and which roles feed it."""
    return f"{components['stage']}({', '.join(sorted(components['inputs']))})"
