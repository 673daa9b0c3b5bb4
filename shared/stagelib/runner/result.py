"""`result.json` of a device, in the schema of the host's own: the host's result with what was measured here."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stagelib.modelinfo import ModelInfo
from stagelib.runner.checks import Check, locked_versions
from stagelib.runner.contents import DEPLOY, HOST_RESULT, Contents, Execution
from stagelib.runtimes.base import ExecutedOn

KEPT = (
    "version",
    "recipe",
    "recipe_digest",
    "target",
    "model",
    "data",
    "emulation",
    "variants",
    "not_built",
    "size_bytes",
    "published",
)
"""What is true of the deployable wherever it runs. Nothing that the host measured is among it."""
NOTHING_COMPARED = {"mean": None, "min": None, "samples": 0}


def build(
    root: Path,
    contents: Contents,
    execution: Execution,
    executed_on: ExecutedOn,
    facts: Mapping[str, Any],
    cosines: Mapping[str, Any] | None,
    checks: Sequence[Check],
) -> dict[str, Any]:
    """The result. `facts` are the benchmark's, `cosines` those of the evaluation against fp32, if that came along."""
    host = json.loads((root / HOST_RESULT).read_text(encoding="utf-8"))
    gates = [_gate(check) for check in checks if check.limit is not None]
    gates += _against_fp32(contents.gates, cosines, facts) if cosines else []
    environment = {**facts["environment"], "platform": contents.platform, "checks": [check.line() for check in checks]}
    environment["versions"] = {**environment["versions"], **locked_versions(root)}
    stand_in = executed_on == "cpu"
    return {
        **{name: host[name] for name in KEPT if name in host},
        "stages": [{**stage, "cached": True} for stage in host["stages"]],
        "engine": "bundle",
        "status": "failed" if any(gate["passed"] is False for gate in gates) else "passed",
        "executed": {
            "stage": contents.made_by,
            "format": ModelInfo.read(root / DEPLOY).format,
            "deployable": True,
            "asked": "" if stand_in else execution.name,
        },
        "executed_on": executed_on,
        "device": str(environment["cpu_model"]) if stand_in else execution.title,
        "measured": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **{name: facts[name] for name in ("latency_ms", "baseline_latency_ms", "latency_ratio", "verdict")},
        "latency_ratio_interval": facts["latency_ratio_interval"],
        "throughput": facts["throughput"],
        "all_threads": _all_threads(facts["all_threads"]),
        "verdict_reason": facts["verdict_reason"],
        "similarity": _similarity(cosines) if cosines else NOTHING_COMPARED,
        "placement": {"runtime": execution.runtime, "nodes": facts["placement"]},
        "gates": gates,
        "settings": dict(facts["settings"]),
        "environment": environment,
    }


def _gate(check: Check) -> dict[str, Any]:
    return {
        "name": check.name,
        "passed": check.passed,
        "limit": check.limit,
        "found": check.found,
        "reason": check.text,
    }


def _similarity(cosines: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _finite(value) for name, value in cosines.items() if not isinstance(value, list)}


def _all_threads(facts: Mapping[str, Any] | None) -> dict[str, Any] | None:
    names = ("threads", "latency_ms", "baseline_latency_ms", "latency_ratio")
    return {name: facts[name] for name in names} if facts else None


def _against_fp32(
    gates: Mapping[str, Any], cosines: Mapping[str, Any], facts: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The recipe's gates that need the fp32 reference."""
    asked, texts = gates["similarity"], f"cosine with fp32 over {cosines['samples']} texts"
    records = [
        _limit(f"similarity.{name}", asked[name], _finite(cosines[name]), f"{name} {texts}", most=False)
        for name in ("mean", "min")
    ]
    if gates.get("latency_ratio"):
        ratio = None if facts["verdict"] == "invalid" else facts["latency_ratio"]
        limit = gates["latency_ratio"]["max"]
        records.append(_limit("latency_ratio", limit, ratio, "latency over fp32", most=True))
    return records


def _limit(name: str, limit: float, found: float | None, what: str, *, most: bool) -> dict[str, Any]:
    passed = found is not None and (found <= limit if most else found >= limit)
    shown = "not a number" if found is None else f"{found:.4f}"
    reason = f"{what} is {shown}, at {'most' if most else 'least'} {limit:g} is asked"
    return {"name": name, "passed": passed, "limit": limit, "found": found, "reason": reason}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
