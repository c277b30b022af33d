"""Other circuits for the same target beside the first: figures, what they share, and how hard was searched."""

from __future__ import annotations

from collections.abc import Iterator

from acdc_engine.display import counted
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.further_records import Alternatives, CircuitFigures
from acdc_engine.graph.nodes import nodes_of_edges, with_roles
from acdc_engine.show.sections import Column, Section, table_of
from acdc_engine.show.words import aim_of


def alternatives(circuit: Circuit) -> Section | None:
    """A row for each circuit, for all of them together and for what they share; None where none were searched for."""
    found, evaluation = circuit.alternatives, circuit.evaluation
    if found is None or evaluation is None:
        return None
    held_out = evaluation.held_out
    own = CircuitFigures(
        n_edges=len(circuit.edges),
        discovery=evaluation.discovery.faithfulness,
        held_out=held_out.faithfulness,
        kl_recovered=held_out.kl_recovered,
        templates={one.name: one.faithfulness for one in held_out.templates},
    )
    rows = [_row("this circuit", own, "")]
    for number, one in enumerate(found.found, 1):
        rows.append(_row(f"alternative {number}", one, ", ".join(f"{share:.0%}" for share in one.overlaps)))
    if found.union is not None and found.intersection is not None:
        rows += [_row("all together", found.union, ""), _row("what all share", found.intersection, "")]
    columns = (Column("circuit", "text", short=""), "edges", Column("overlap", "name"), "discovery", "held-out")
    more = (Column("KL recovered", short="KL re-\ncovered"), Column("worst template", short="worst\ntemplate"))
    table = table_of((*columns, *more), rows if found.found else [])
    note = (
        "Faithfulness on discovery and held-out prompts; KL recovered, and the template farthest from 1, on held-out "
        "ones. Overlap: edges in common with this circuit and each alternative before, as a share of the smaller one."
    )
    title = "Other circuits for the same target"
    return Section(title, texts=[_told(found, circuit)], table=table if found.found else None, notes=[note])


def beside(circuit: Circuit) -> Iterator[tuple[str, Circuit]]:
    """The circuit and its alternatives as circuits, each with what it is called; nothing where there are none."""
    found = () if circuit.alternatives is None else circuit.alternatives.found
    layout, roles = circuit.graph(), {node.name: node for node in circuit.nodes}
    if found:
        yield "This circuit", circuit
    for number, one in enumerate(found, 1):
        nodes = tuple(roles.get(node.name, node) for node in nodes_of_edges(layout, one.edges))
        edges = with_roles(layout, nodes, one.edges)
        others = dict.fromkeys(("evaluation", "certificate", "alternatives", "repeats"))
        update = {"nodes": nodes, "edges": edges, **others}
        yield f"Alternative {number}", circuit.model_copy(update=update)


def _told(found: Alternatives, circuit: Circuit) -> str:
    """How many there are, and how hard another was searched for."""
    share = f"at most {found.overlap:.0%} of the edges in common with each one before"
    text = (
        f"{len(found.found)} of {found.asked} found that {'meets' if len(found.found) == 1 else 'meet'} the target, "
        f"with {share}, in {found.searches} search{'' if found.searches == 1 else 'es'} that ran "
        f"{counted(found.evaluations, 'circuit')}."
    )
    if found.stopped:
        return f"{text} The time was over before the searches were."
    if len(found.found) == found.asked:
        return f"{text} The circuit is not the only one."
    if found.closest is None:
        return f"{text} For another nothing could be run: too few edges are left."
    return f"{text} The nearest to another has {aim_of(circuit.search)} {found.closest:.3f}."


def _row(name: str, of: CircuitFigures, overlap: str) -> list[str]:
    known = [value for value in of.templates.values() if value is not None]
    worst = max(known, key=lambda value: abs(1 - value), default=None)
    figures = [f"{round(value, 3) + 0.0:.3f}" for value in (of.discovery, of.held_out, of.kl_recovered)]
    discovery, held_out, kl = figures
    return [name, f"{of.n_edges:,}", overlap, discovery, held_out, kl, "" if worst is None else f"{worst:.3f}"]
