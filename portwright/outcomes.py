"""All outcomes of one plan: artifacts and measurements, found by call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portwright.calls import RecipePlan
from portwright.history import sample_lines
from portwright.shelf import Done


class Outcomes:
    """All outcomes of one plan, found by call."""

    def __init__(self, plan: RecipePlan, done: Sequence[Done]) -> None:
        self.plan = plan
        self.all = list(done)
        self._by_key = {item.call.key: item for item in done}
        self.package = self._by_key[plan.package.key]
        self.benchmark = self._by_key[plan.benchmark.key]
        self.evaluate = self._by_key[plan.evaluate.key]
        self.emulate = self._by_key[plan.emulate.key] if plan.emulate else None
        self.diagnosis: Done | None = None
        """Set for a model that failed."""
        self.chain = [self._by_key[call.key] for call in plan.chain]
        self.batches = self._by_key[plan.batches.key]

    @property
    def nothing_ran(self) -> bool:
        return all(item.cached for item in self.all)

    def model_digest(self) -> str:
        """Digest of the model's content, known once it is fetched."""
        source = self.plan.source
        if source.local is not None:
            return source.local.digest
        assert source.call is not None
        artifact = self._by_key[source.call.key].artifact
        assert artifact is not None
        return artifact.manifest.content_digest

    def samples(self) -> list[Mapping[str, Any]]:
        """Raw samples of every measurement of the plan."""
        return [line for item in self.all if item.measurement for line in sample_lines(item.measurement)]
