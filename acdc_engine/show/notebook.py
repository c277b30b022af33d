"""Circuits, curves and comparisons as pieces of HTML for notebooks.

Notebooks run the scripts of their outputs, so every text is escaped. Pictures are PNG in `img` elements: sites that
show notebooks without running them (GitHub among them) clean outputs, and SVG does not come through everywhere.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from markupsafe import Markup

from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Evaluation, Figures, Interval
from acdc_engine.graph.looks import by_strength, column_style, measure_of, texts_of
from acdc_engine.graph.records import SIGN_CONVENTION, CircuitEdge
from acdc_engine.graph.result_records import Comparison, Curve, EditEdge
from acdc_engine.show.compare_text import RANKS
from acdc_engine.show.figure_tables import answer_rows, template_rows
from acdc_engine.show.pictures.comparison import comparison_figure
from acdc_engine.show.pictures.curve import curve_figure
from acdc_engine.show.pictures.draw import figure_of
from acdc_engine.show.pictures.marks import MANY
from acdc_engine.show.remarks import remarks, warning
from acdc_engine.show.text import evidence_of, facts
from acdc_engine.show.visible import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN_EDGES = 150
"""Edges that the picture of a larger circuit has at most."""
ROWS = 10
"""Rows of a table."""
_LONGEST = 300
_DPI = 144
_COLOURS = 256
"""Of a picture: a third of the bytes. Chosen for coverage, which moves no colour by more than a few of 255; the usual
median cut sacrifices rare ones, such as a role's in the legend."""


def circuit_html(circuit: Circuit) -> Markup:
    """A circuit: picture, where it comes from, figures with intervals, and its strongest edges."""
    return joined(
        picture_html(_figure(circuit), "the circuit as a graph, input at the bottom, logits at the top"),
        pairs_html({**facts(circuit), **evidence_of(circuit)}),
        warning_html(warning(circuit)),
        figures_html(circuit.evaluation) if circuit.evaluation is not None else Markup(),
        _edges(circuit),
        *notes_html(remarks(circuit)),
    )


def curve_html(curve: Curve) -> Markup:
    """A curve: its picture, and the areas of every series."""
    named = [(series.name, series.areas) for series in curve.series]
    named += [] if curve.random is None else [("random", curve.random.areas)]
    rows = [
        (name, *(f"{value:.3f}" for area in (a.requested, a.actual) for value in (area.cpr, area.cmd)))
        for name, a in named
    ]
    heading = ("", "CPR, edges asked for", "CMD", "CPR, edges left", "CMD")
    return joined(picture_html(curve_figure(curve), "faithfulness against number of edges"), table_html(heading, rows))


def comparison_html(comparison: Comparison) -> Markup:
    """A comparison: its picture, overlaps, areas, and the strongest of what is missing and extra."""
    overlaps = [
        (
            row.name,
            *(f"{n:,}" for n in (row.n_true, row.n_found, row.n_both)),
            *map(_three, (row.precision, row.recall)),
        )
        for row in comparison.overlaps
    ]
    areas = [
        (row.name, RANKS[row.rank], f"{row.auc:.3f}", f"{row.average_precision:.3f}") for row in comparison.rankings
    ]
    return joined(
        picture_html(comparison_figure(comparison), "receiver operating characteristic, precision and recall"),
        pairs_html(
            {"Found": comparison.found, "Known": comparison.known, "Source": comparison.known_source or "not stated"}
        ),
        table_html(("", "known", "found", "both", "precision", "recall"), overlaps),
        table_html(("", "ranked by", "AUC", "average precision"), areas) if areas else Markup(),
        _edits("Missing (known, not found)", comparison.missing),
        _edits("Extra (found, not known)", comparison.extra),
        *notes_html(comparison.remarks),
    )


def _figure(circuit: Circuit) -> Figure:
    """All edges of a small circuit; of a large one the strongest, if they are known and join input and logits."""
    shown = None
    if len(circuit.edges) > MANY:
        with suppress(CircuitFileError):  # all of them in thin lines, then
            shown = figure_of(circuit, top=SHOWN_EDGES)
    return shown or figure_of(circuit)


def figures_html(evaluation: Evaluation) -> Markup:
    """The figures of both splits; intervals of the held-out ones, since on prompts searched on they say nothing."""
    sides = seen, unseen = evaluation.discovery, evaluation.held_out
    rows: list[Sequence[str]] = [
        ("prompts", *(f"{side.n_prompts:,}" for side in sides)),
        (
            "faithfulness",
            f"{seen.faithfulness:.3f}",
            _sure(unseen.faithfulness, unseen.faithfulness_interval),
        ),
        ("KL recovered", f"{seen.kl_recovered:.3f}", _sure(unseen.kl_recovered, unseen.kl_interval)),
        ("prompts judged as the model does", *(f"{side.agreement:.1%}" for side in sides)),
        ("metric: model, circuit, corrupt", *(_metrics(side) for side in sides)),
    ]
    interval = unseen.faithfulness_interval
    heading = ("" if interval is None else f"({interval.level:.0%} interval)", "discovery", "held-out")
    return Markup().join((table_html(heading, rows), _templates(evaluation), _answers(evaluation)))


def _templates(evaluation: Evaluation) -> Markup:
    rows = [
        (
            row.name,
            row.prompts,
            _with(row.faithfulness, row.between),
            _with(row.kl_recovered, row.kl_between),
            row.agreement,
        )
        for row in template_rows(evaluation)
    ]
    if not rows:
        return Markup()
    more = f", the worst {ROWS} of {len(rows):,}" if len(rows) > ROWS else ", the worst first"
    heading = ("template", "prompts", "faithfulness", "KL recovered", "judged as the model does")
    return table_html(heading, rows[:ROWS], f"Template by template, held-out prompts{more}")


def _answers(evaluation: Evaluation) -> Markup:
    rows = [(row.label, row.model, row.circuit, row.ablated) for row in answer_rows(evaluation)]
    if not rows:
        return Markup()
    return table_html(("", "model", "circuit", "ablated"), rows, "What it answers, held-out prompts")


def _with(value: str, interval: str) -> str:
    return f"{value} ({interval})" if interval else value


def _metrics(side: Figures) -> str:
    return ", ".join(texts_of(side.metric_clean, side.metric_circuit, side.metric_corrupt))


def _edges(circuit: Circuit) -> Markup:
    measure, edges = measure_of(circuit), by_strength(circuit)
    columns = [
        name
        for name in ("effect", "score", "stability", "necessity")
        if any(getattr(edge, name) is not None for edge in edges)
    ]
    roles = any(edge.sender_role or edge.receiver_role for edge in edges[:ROWS])
    styles = {column: column_style(getattr(edge, column) for edge in edges) for column in columns}
    rows = [
        (_name(edge), *(_cell(edge, column, styles[column]) for column in columns), *([_roles(edge)] if roles else []))
        for edge in edges[:ROWS]
    ]
    order = f"strongest {measure} first, {SIGN_CONVENTION}" if measure else "as in the file"
    caption = f"{min(ROWS, len(edges)):,} of {len(edges):,} edges, {order}"
    return table_html(("edge", *columns, *(["roles"] if roles else [])), rows, caption)


def _name(edge: CircuitEdge) -> str:
    return f"{edge.sender} -> {edge.receiver}"


def _cell(edge: CircuitEdge, column: str, style: str) -> str:
    value = getattr(edge, column)
    return "" if value is None else f"{value:+{style}}" if column in ("effect", "score") else f"{value:.0%}"


def _roles(edge: CircuitEdge | EditEdge) -> str:
    if edge.sender_role is None and edge.receiver_role is None:
        return ""
    ends = (edge.sender, edge.receiver) if isinstance(edge, CircuitEdge) else edge.edge.split("->")
    return f"{edge.sender_role or ends[0]} -> {edge.receiver_role or ends[1]}"


def _edits(title: str, edges: tuple[EditEdge, ...]) -> Markup:
    if not edges:
        return Markup()
    style = column_style(edge.score for edge in edges)
    rows = [(edge.edge, "" if edge.score is None else f"{edge.score:+{style}}", _roles(edge)) for edge in edges[:ROWS]]
    kept = [place for place, texts in enumerate(zip(*rows, strict=True)) if any(texts)]
    heading = ("edge", "score", "classes")
    shown = [[row[place] for place in kept] for row in rows]
    caption = f"{title}: {len(edges):,}, strongest first"
    return table_html([heading[place] for place in kept], shown, caption)


def _sure(value: float, interval: Interval | None) -> str:
    return f"{value:.3f}" + ("" if interval is None else f" ({interval.low:.3f} to {interval.high:.3f})")


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def picture_html(figure: Figure, described: str) -> Markup:
    """A figure as an image that runs nothing.

    Args:
        figure: What to show.
        described: What it shows, for those who do not see it.
    """
    from PIL import Image

    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=_DPI, facecolor="white")
    few = Image.open(drawn).convert("RGB").quantize(_COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(small, "PNG", optimize=True)
    data = base64.b64encode(small.getvalue()).decode()
    width = round(96 * figure.get_figwidth())  # CSS has 96 pixels an inch
    image = Markup('<img alt="{}" width="{}" style="max-width:100%;height:auto" src="data:image/png;base64,{}">')
    return image.format(described, width, data)


def pairs_html(texts: Mapping[str, str]) -> Markup:
    """Names beside their texts."""
    return table_html((), [(name[:1].upper() + name[1:], text) for name, text in texts.items()], left=2)


def warning_html(text: str) -> Markup:
    """What must be read before the figures; nothing for an empty text."""
    return Markup("<p><strong>{}</strong></p>").format(plain(text, 2 * _LONGEST)) if text else Markup()


def notes_html(texts: Iterable[str]) -> Iterator[Markup]:
    """What a reader should know besides, a paragraph each."""
    for text in texts:
        yield Markup("<p>Note: {}</p>").format(_text(text))


def table_html(heading: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "", left: int = 1) -> Markup:
    """A table; every text is escaped, cut, and without control characters and marks of direction.

    Args:
        heading: Of the columns; empty for none.
        rows: As many cells each.
        caption: What stands above.
        left: Columns whose texts begin at the left; numbers end at the right.
    """

    def line(tag: str, cells: Sequence[str]) -> Markup:
        cell = Markup("<{0} style='text-align:{1}'>{2}</{0}>")
        sides = ("left" if place < left else "right" for place in range(len(cells)))
        shown = (cell.format(tag, side, _text(text)) for side, text in zip(sides, cells, strict=True))
        return Markup("<tr>{}</tr>").format(Markup().join(shown))

    parts = (
        [Markup("<caption style='text-align:left;white-space:nowrap'>{}</caption>").format(caption)] if caption else []
    )
    parts += [Markup("<thead>{}</thead>").format(line("th", heading))] if heading else []
    body = Markup().join(line("td", row) for row in rows)
    return Markup("<table>{}<tbody>{}</tbody></table>").format(Markup().join(parts), body)


def joined(*parts: Markup) -> Markup:
    """Pieces one below the other."""
    return Markup("<div>{}</div>").format(Markup().join(parts))


def _text(text: str) -> str:
    return plain(text, _LONGEST)
