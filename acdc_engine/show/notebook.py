"""Results as pieces of HTML for notebooks: a picture, the sections, and notes.

Notebooks run the scripts of their outputs, so every text is escaped. Pictures are PNG in `img` elements: sites that
show notebooks without running them (GitHub among them) clean outputs, and SVG does not come through everywhere.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from markupsafe import Markup

from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.act_records import Folding, Steering, Voices
from acdc_engine.graph.checkpoint_records import Checkpoints
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.diff_records import Diff
from acdc_engine.graph.evidence_records import Evaluation
from acdc_engine.graph.nodes import layer_of
from acdc_engine.graph.result_records import Comparison, Curve, Verification
from acdc_engine.graph.transfer_records import Transfer
from acdc_engine.show.acting import folding_sections, steering_sections, voices_sections
from acdc_engine.show.checkpoints import checkpoints_remarks, checkpoints_sections
from acdc_engine.show.diff import diff_remarks, diff_sections
from acdc_engine.show.figures import edges, summary
from acdc_engine.show.page import environment
from acdc_engine.show.pictures.charts import comparison_figure, curve_figure
from acdc_engine.show.pictures.checkpoints import checkpoints_figure
from acdc_engine.show.pictures.difference import diff_figure
from acdc_engine.show.pictures.draw import figure_of
from acdc_engine.show.pictures.marks import MANY
from acdc_engine.show.pictures.matrix import transfer_figure
from acdc_engine.show.pictures.steering import steering_figure
from acdc_engine.show.remarks import curve_remarks, remarks
from acdc_engine.show.results import (
    Scores,
    comparison_sections,
    curve_sections,
    scores_sections,
    verification_remarks,
    verification_sections,
)
from acdc_engine.show.sections import Section
from acdc_engine.show.transfer import transfer_remarks, transfer_sections
from acdc_engine.show.visible import plain
from acdc_engine.show.words import LONGEST

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN_EDGES = 150
"""Edges that the picture of a larger circuit has at most."""
_ROWS = 10
"""Edges in a table."""
_DPI = 144
_COLOURS = 256
"""Of a picture: a third of the bytes. Chosen for coverage, which moves no colour by more than a few of 255; the usual
median cut sacrifices rare ones, such as a role's in the legend."""


def html_of(thing: object) -> str:
    """Renders what `line_of` says in one line; else raises TypeError."""
    sections, picture, notes = _parts(thing)
    return (
        environment()
        .get_template("report/notebook.html.j2")
        .render(sections=sections, picture=picture, notes=[plain(note, LONGEST) for note in notes])
    )


def _parts(thing: object) -> tuple[list[Section], Markup, Sequence[str]]:
    """Sections, picture and notes."""
    if isinstance(thing, Circuit):
        drawn = picture_html(_figure(thing), "the circuit as a graph, input at the bottom, logits at the top")
        return [*summary(thing), edges(thing, _ROWS)], drawn, remarks(thing)
    if isinstance(thing, Evaluation):
        return summary(thing), Markup(), ()
    if isinstance(thing, Curve):
        drawn = picture_html(curve_figure(thing), "faithfulness against number of edges")
        return curve_sections(thing), drawn, curve_remarks(thing)
    if isinstance(thing, Comparison):
        drawn = picture_html(comparison_figure(thing), "receiver operating characteristic, precision and recall")
        return comparison_sections(thing, _ROWS), drawn, thing.remarks
    if isinstance(thing, Transfer):
        drawn = picture_html(transfer_figure(thing), "circuits by tasks as heat maps")
        return transfer_sections(thing), drawn, transfer_remarks(thing)
    if isinstance(thing, Checkpoints):
        drawn = picture_html(checkpoints_figure(thing), "behaviour, size, faithfulness and overlap, model by model")
        return checkpoints_sections(thing), drawn, checkpoints_remarks(thing)
    if isinstance(thing, Diff):
        drawn = Markup() if thing.nodes is None else picture_html(diff_figure(thing), "nodes whose effects differ")
        return diff_sections(thing), drawn, diff_remarks(thing)
    if isinstance(thing, Voices):
        return voices_sections(thing), Markup(), thing.remarks
    if isinstance(thing, Folding):
        return folding_sections(thing), Markup(), thing.remarks
    if isinstance(thing, Steering):
        drawn = picture_html(steering_figure(thing), "metric, top-1 and KL on neutral text against the dose")
        return steering_sections(thing), drawn, thing.remarks
    if isinstance(thing, Verification):
        return verification_sections(thing), Markup(), verification_remarks(thing)
    if isinstance(thing, Scores):
        drawn = picture_html(_heatmap(thing), "sum of |score| between layers") if thing.senders else Markup()
        return scores_sections(thing, _ROWS), drawn, ()
    raise TypeError(f"{type(thing)} is no result that can be shown.")


def _figure(circuit: Circuit) -> Figure:
    """All edges of a small circuit; of a large one the strongest, if they are known and join input and logits."""
    shown = None
    if len(circuit.edges) > MANY:
        with suppress(CircuitFileError):  # all of them in thin lines, then
            shown = figure_of(circuit, top=_SHOWN_EDGES)
    return shown or figure_of(circuit)


def picture_html(figure: Figure, described: str) -> Markup:
    """A figure as an image that runs nothing, described for those who do not see it."""
    from PIL import Image

    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=_DPI, facecolor="white")
    few = Image.open(drawn).convert("RGB").quantize(_COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(small, "PNG", optimize=True)
    data = base64.b64encode(small.getvalue()).decode()
    width = round(96 * figure.get_figwidth())  # CSS has 96 pixels an inch
    image = Markup('<img alt="{}" width="{}" style="max-width:100%;height:auto" src="data:image/png;base64,{}">')
    return image.format(described, width, data)


def _heatmap(scores: Scores) -> Figure:
    """Layers that write across, layers that read upwards; the darker, the larger the sum of |score| between them."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    rows, columns = list(map(layer_of, scores.senders)), list(map(layer_of, scores.receivers))
    last = max(columns) + 1
    receivers = [last if column < 0 else column for column in columns]  # the logits last
    total = scores.mean.new_zeros(last + 1, last + 1)
    for place, row in enumerate(rows):
        sums = scores.mean.new_zeros(last + 1)
        sums.index_add_(0, scores.mean.new_tensor(receivers).long(), scores.mean[place].abs())
        total[:, row + 1] += sums  # the input first
    figure = Figure(figsize=(4.6, 4.0), layout="constrained")
    axes = figure.add_subplot()
    largest = float(total.max()) or 1.0
    colours = LogNorm(1e-4 * largest, largest, clip=True)
    image = axes.imshow(total.numpy(), origin="lower", cmap="Blues", norm=colours, interpolation="nearest")
    ticks = list(range(0, last, max(1, last // 8)))
    axes.set_xticks([0, *(tick + 1 for tick in ticks)], ["in", *map(str, ticks)], fontsize=7)
    axes.set_yticks([*ticks, last], [*map(str, ticks), "out"], fontsize=7)
    axes.set_xlabel("writes: layer", fontsize=8)
    axes.set_ylabel("reads: layer", fontsize=8)
    figure.colorbar(image, ax=axes, shrink=0.8).ax.tick_params(labelsize=7)
    axes.set_title("sum of |score| between layers", fontsize=9)
    return figure
