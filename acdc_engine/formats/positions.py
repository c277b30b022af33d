"""Where nodes stand in files that hold positions: input at the bottom, rows for groups, heads and MLP of a layer."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import networkx as nx

_ACROSS, _UP = 90.0, 70.0
_ROWS = {"kv": 0, "head": 1, "mlp": 2}
"""Of a layer, from below."""


def positions(graph: nx.MultiDiGraph[str]) -> dict[str, tuple[float, float]]:
    """Places in pixels by node; y grows upwards, rows are centred at x = 0 and empty ones left out.

    Args:
        graph: From `Circuit.to_networkx`.
    """
    rows: dict[tuple[float, int], list[str]] = {}
    for name, facts in graph.nodes(data=True):
        layer = facts.get("layer", -1 if facts["kind"] == "input" else inf)
        rows.setdefault((layer, _ROWS.get(facts["kind"], 0)), []).append(name)
    return {
        name: ((place - (len(names) - 1) / 2) * _ACROSS, row * _UP)
        for row, (_, names) in enumerate(sorted(rows.items()))
        for place, name in enumerate(names)
    }
