"""The search, repeated: what the repeats agree on, and what they do not, as a section."""

from __future__ import annotations

from collections.abc import Sequence

from acdc_engine.display import counted
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Figures
from acdc_engine.graph.further_records import Core, Included, Repeats
from acdc_engine.graph.style import in_core
from acdc_engine.show.sections import Column, Section, Table, table_of, three
from acdc_engine.show.visible import plain
from acdc_engine.show.words import NAME, aim_of, between, farthest_first

_MOST_OTHERS = 5


def repeats_section(circuit: Circuit) -> Section | None:
    """How far the circuit depends on the prompts it was searched on; None where the search was not repeated."""
    found = circuit.repeats
    if found is None:
        return None
    pairs = {"searches": _searches(found)}
    if found.edge_overlap is not None and found.node_overlap is not None:
        pairs["overlap"] = (
            f"two of them share {found.edge_overlap:.0%} of the edges and {found.node_overlap:.0%} of the heads and "
            "MLPs that either has, on average"
        )
    sure = sum(bool(in_core(edge)) for edge in circuit.edges)
    if found.sizes:
        pairs["the circuit"] = f"{sure:,} of its {counted(len(circuit.edges), 'edge')} are in 90% of them or more"
    if found.other_edges:
        pairs["not in it"] = f"in half of them or more: {_named(found.other_edges)}"
    return Section(
        "The search, repeated on halves of the discovery prompts",
        pairs=pairs,
        table=None if found.core is None else _beside(circuit, found.core),
        notes=[
            "The core has the edges of 90% of these searches or more, less those that then lie on no path. What the "
            "searches do not agree on, other prompts would not have found either."
        ],
    )


def _beside(circuit: Circuit, core: Core) -> Table:
    """The core beside the circuit, on the held-out prompts."""
    whole, nodes = circuit.evaluation, sum(node.kind in ("head", "mlp") for node in circuit.nodes)
    aim = aim_of(circuit.search)
    rows = [
        ("the circuit", *_figures(len(circuit.edges), nodes, None if whole is None else whole.held_out, aim)),
        ("its core", *_figures(len(core.edges), core.nodes, core.figures, aim)),
    ]
    columns = (
        Column("held-out prompts", "text", short=""),
        "edges",
        Column("heads and MLPs", short="heads,\nMLPs"),
        Column("faithfulness", short="faith-\nfulness", strong=True),
        Column("interval", "name"),
        Column("KL recovered", short="KL re-\ncovered"),
        Column("farthest template", "text", short="farthest\ntemplate"),
    )
    return table_of(columns, rows)


def _figures(edges: int, nodes: int, figures: Figures | None, aim: str) -> tuple[str, ...]:
    size = f"{edges:,}", f"{nodes:,}"
    if figures is None:
        return (*size, "", "", "", "")
    values = f"{figures.faithfulness:.3f}", between(figures.faithfulness_interval), f"{figures.kl_recovered:.3f}"
    farthest = ""
    if figures.templates:
        one = farthest_first(figures, aim)[0]
        value = one.kl_recovered if aim == "KL recovered" else one.faithfulness
        farthest = f"{plain(one.name, NAME)} {three(value)}"
    return (*size, *values, farthest)


def _searches(found: Repeats) -> str:
    """How many, and how large what they find is."""
    made = str(found.made) if found.made == found.asked else f"{found.made} of {found.asked}"
    text = f"{made}, on {found.n_prompts:,} prompts each"
    if found.sizes:
        sizes = sorted(found.sizes)
        middle = (sizes[(len(sizes) - 1) // 2] + sizes[len(sizes) // 2]) / 2
        text += f": {sizes[0]:,} to {sizes[-1]:,} edges, median {middle:,.6g}"
    return text + (f"; {found.failed} found no circuit in the target" if found.failed else "")


def _named(others: Sequence[Included]) -> str:
    names = ", ".join(f"{plain(one.name, NAME)} ({one.inclusion:.0%})" for one in others[:_MOST_OTHERS])
    left = len(others) - _MOST_OTHERS
    return names + (f" and {left:,} more" if left > 0 else "")
