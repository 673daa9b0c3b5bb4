"""How a run was measured, as far as its figures depend on it: the same facts from a host's run and from a bundle's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def protocol(benchmark: Mapping[str, Any], evaluation_sha256: str | None) -> dict[str, Any]:
    """From the benchmark's facts, and the digest of the texts that similarity was judged on (None: it was not)."""
    threads = [benchmark["environment"].get("threads", 1)]
    if benchmark.get("all_threads"):
        threads.append(benchmark["all_threads"]["threads"])
    return {
        "number": benchmark.get("protocol", 1),
        "inputs_sha256": benchmark["inputs_sha256"],
        "evaluation_sha256": evaluation_sha256,
        "batch_size": benchmark["batch_size"],
        "sequence_length": benchmark["sequence_length"],
        "threads": tuple(threads),
        "baseline": benchmark.get("baseline"),
    }
