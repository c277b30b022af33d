"""Where nodes stand in files that hold positions: input at the bottom, a row for the heads and one for each MLP."""

from __future__ import annotations

from acdc_engine.graph.circuit import Circuit

_ACROSS, _UP = 90.0, 70.0


def positions(circuit: Circuit) -> dict[str, tuple[float, float]]:
    """Places in pixels by node; y grows upwards, rows are centred at x = 0 and empty ones left out."""
    rows: dict[tuple[int, int], list[str]] = {}
    top = circuit.model.n_layers
    for node in circuit.nodes:
        layer = node.layer if node.layer is not None else {"input": -1, "logits": top}[node.kind]
        rows.setdefault((layer, node.kind == "mlp"), []).append(node.name)
    return {
        name: ((place - (len(names) - 1) / 2) * _ACROSS, row * _UP)
        for row, (_, names) in enumerate(sorted(rows.items()))
        for place, name in enumerate(names)
    }
