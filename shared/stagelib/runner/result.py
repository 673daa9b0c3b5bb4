"""`result.json` of a device, in the schema of the host's own: the host's result with what was measured here."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stagelib import limits
from stagelib.modelinfo import ModelInfo
from stagelib.protocol import protocol
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
    asked = "" if executed_on == "cpu" else execution.name
    gates += _against_fp32(contents.gates, cosines, facts, asked or executed_on) if cosines else []
    environment = {**facts["environment"], "platform": contents.platform, "checks": [check.line() for check in checks]}
    environment["versions"] = {**environment["versions"], **locked_versions(root)}
    return {
        **{name: host[name] for name in KEPT if name in host},
        "stages": [{**stage, "cached": True} for stage in host["stages"]],
        "engine": "bundle",
        "status": "failed" if any(gate["passed"] is False for gate in gates) else "passed",
        "executed": _executed(root, contents, asked),
        "executed_on": executed_on,
        "device": facts["device_name"],
        "measured": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **{name: facts[name] for name in ("latency_ms", "baseline_latency_ms", "latency_ratio", "verdict")},
        "latency_ratio_interval": facts["latency_ratio_interval"],
        "throughput": facts["throughput"],
        "all_threads": _all_threads(facts["all_threads"]),
        "verdict_reason": facts["verdict_reason"],
        "protocol": protocol(facts, cosines["inputs_sha256"] if cosines else None),
        "similarity": _similarity(cosines) if cosines else NOTHING_COMPARED,
        "placement": {"runtime": execution.runtime, "nodes": facts["placement"]},
        "gates": gates,
        "settings": dict(facts["settings"]),
        "session_settings": facts["session_settings"],
        "environment": environment,
    }


def _executed(root: Path, contents: Contents, asked: str) -> dict[str, Any]:
    made = ModelInfo.read(root / DEPLOY).format
    return {"stage": contents.made_by, "format": made, "deployable": True, "asked": asked}


def _gate(check: Check) -> dict[str, Any]:
    return {
        "name": check.name,
        "passed": check.passed,
        "limit": check.limit,
        "found": check.found,
        "reason": check.text,
    }


def _similarity(cosines: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("mean", "min", "samples")
    return {name: _finite(cosines[name]) for name in kept}


def _all_threads(facts: Mapping[str, Any] | None) -> dict[str, Any] | None:
    names = ("threads", "latency_ms", "baseline_latency_ms", "latency_ratio")
    return {name: facts[name] for name in names} if facts else None


def _against_fp32(
    gates: Mapping[str, Any], cosines: Mapping[str, Any], facts: Mapping[str, Any], ran_on: str
) -> list[dict[str, Any]]:
    """The recipe's gates that need the fp32 reference."""
    asked, found = gates["similarity"], (_finite(cosines["mean"]), _finite(cosines["min"]))
    judged = list(limits.similar("similarity", (asked["mean"], asked["min"]), found, cosines["samples"]))
    if ratio := gates.get("latency_ratio"):
        measured = None if facts["verdict"] == "invalid" else facts["latency_ratio"]
        up_to = limits.unsure_up_to(facts["verdict"], facts["latency_ratio_interval"])
        judged.append(limits.fast_enough(ratio["max"], ratio["on"], measured, ran_on, up_to))
    return [asdict(one) for one in judged]


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
