"""NNCF's search for patterns in a graph, asked the cheap question first.

NNCF looks for hundreds of patterns at every node, and networkx compares the neighbours of two nodes before it asks
whether they are of one kind, which few are. What is found, and in which order, doesn't depend on the order of the two.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from networkx.algorithms.isomorphism import MultiDiGraphMatcher
from nncf.common.graph import graph_matching


class KindFirst(MultiDiGraphMatcher):  # type: ignore[misc]  # networkx isn't where types are checked
    """A matcher that compares the kinds of two nodes before their neighbours."""

    def syntactic_feasibility(self, graph_node: Any, pattern_node: Any) -> bool:
        """Whether the pair can be added to the match."""
        try:
            alike = self.semantic_feasibility(graph_node, pattern_node)
        except KeyError:
            # A node of no kind: networkx itself asks this only of nodes whose neighbours fit.
            alike = True
        return bool(alike and super().syntactic_feasibility(graph_node, pattern_node))


@contextlib.contextmanager
def quick_search() -> Iterator[None]:
    """Have NNCF search with `KindFirst` meanwhile."""
    usual = graph_matching.ism
    graph_matching.ism = SimpleNamespace(MultiDiGraphMatcher=KindFirst)
    try:
        yield
    finally:
        graph_matching.ism = usual
