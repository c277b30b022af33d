"""The pages of `acdc diff`, one HTML file each: two models, a map and the change drawn; or checkpoints as curves."""

from __future__ import annotations

from collections.abc import Iterator

from acdc_engine.graph.checkpoint_records import Checkpoints
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.diff_records import ALPHA, Diff
from acdc_engine.show.checkpoints import checkpoints_remarks, checkpoints_sections
from acdc_engine.show.diff import diff_remarks, diff_sections
from acdc_engine.show.page import render
from acdc_engine.show.pictures import on_page
from acdc_engine.show.pictures.checkpoints import checkpoints_figure
from acdc_engine.show.pictures.difference import diff_figure
from acdc_engine.show.pictures.draw import figure_of
from acdc_engine.show.visible import plain

_MOST_DRAWN, _ROWS, _NAME = 250, 60, 60


def diff_html(found: Diff, change: Circuit | None) -> str:
    """Renders the page; `change` is the circuit of the change, where there is one."""
    tuned, base = (plain(one.model.name, _NAME) for one in (found.tuned, found.base))
    return render(
        "report/diff.html.j2",
        kicker="Two models",
        title=f"{tuned} against {base}: {plain(found.task, _NAME)}",
        remarks=diff_remarks(found),
        sections=diff_sections(found, _ROWS),
        pictures=list(_pictures(found, change)),
    )


def checkpoints_html(found: Checkpoints) -> str:
    """Renders the page of a comparison across checkpoints."""
    first, last = (plain(one.model.name, _NAME) for one in (found.models[0], found.models[-1]))
    about = "Behaviour, size, faithfulness and overlap of the circuits, model by model"
    return render(
        "report/diff.html.j2",
        kicker="Checkpoints",
        title=f"{plain(found.task, _NAME)} from {first} to {last}",
        remarks=checkpoints_remarks(found),
        sections=checkpoints_sections(found),
        pictures=[on_page(checkpoints_figure(found), about, "Values are in the tables; a gap: no circuit.")],
    )


def _pictures(found: Diff, change: Circuit | None) -> Iterator[dict[str, object]]:
    if found.nodes is not None:
        about = "Nodes whose effects differ in the two models, and edges of their circuits, by layer"
        note = "Coloured: nodes whose effects differ at 5 %, corrected for all; input and layer 0 may be stronger."
        if (left := found.nodes.n_changed - sum(one.p <= ALPHA for one in found.nodes.shown)) > 0:
            note += f" {left:,} more, whose effects differ less, are left white."
        yield on_page(diff_figure(found), about, note)
    if change is not None and len(change.edges) <= _MOST_DRAWN:
        about = "The circuit of the change as a graph, logits at the top"
        raised = found.carried.metric_tuned > found.carried.metric_none
        moved, colour = ("raised", "blue") if raised else ("lowered", "orange")
        note = (
            "The circuit of the change. Blue edges raise the metric in the tuned model, orange ones lower it. Tuning "
            f"{moved} it: {colour} edges carry that, the others work against it."
        )
        yield on_page(figure_of(change), about, note)
