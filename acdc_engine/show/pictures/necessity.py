"""What is lost without single edges: in the circuit, where every one is needed, and in the whole model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Indispensable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MODEL, _CIRCUIT, _LOST = "#0072B2", "#999999", "#D55E00"
_ENDS = (-0.6, 2.2)
_MOST = 24
"""Edges drawn: the ones that the model misses most."""


def necessity_figure(circuit: Circuit, found: Indispensable) -> Figure:
    """The whole model and the circuit without each edge that was tried, one line an edge; discovery prompts.

    The edge that the model misses most is on top; numbers beyond the picture stand at its end.
    """
    from matplotlib.figure import Figure

    names = sorted(found.without, key=found.without.__getitem__)[:_MOST][::-1]
    figure = Figure(figsize=(7.4, 1.3 + 0.2 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    band: dict[str, Any] = {"color": "#F0E442", "alpha": 0.22, "linewidth": 0, "zorder": 0}
    axes.axvspan(found.low, 2 - found.low, label=f"{found.low:g} to {2 - found.low:g}", **band)
    inside = {edge.name: edge.without for edge in circuit.edges}
    own = [(value, at) for at, name in enumerate(names) if (value := inside.get(name)) is not None]
    dots: dict[str, Any] = {"linestyle": "none", "markersize": 5}
    axes.plot(*_columns(own), color=_CIRCUIT, marker="o", label="the circuit without it", fillstyle="none", **dots)
    for lost, colour in ((True, _LOST), (False, _MODEL)):
        some = [(found.without[name], at) for at, name in enumerate(names) if (name in found.edges) == lost]
        label = f"the model without it: {'indispensable' if lost else 'not indispensable'}"
        if some:
            axes.plot(*_columns(some), color=colour, marker="D" if lost else "o", label=label, **dots)
    axes.set_yticks(range(len(names)), names, fontsize=7.5, family="monospace")
    axes.set_xlabel(f"{'KL recovered' if found.objective == 'kl' else 'faithfulness'}, discovery prompts")
    axes.grid(axis="y", color="#EEEEEE", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


def _columns(points: list[tuple[float, int]]) -> tuple[list[float], list[int]]:
    return [min(max(value, _ENDS[0]), _ENDS[1]) for value, _ in points], [at for _, at in points]
