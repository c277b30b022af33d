"""The report of a run: one HTML file to read, to print, and to send to a colleague."""

from __future__ import annotations

from acdc_engine.export.text import column_meanings, edge_columns, evidence_of, figure_rows, interval_level, remarks
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.comparison_records import Comparison
from acdc_engine.html.page import render
from acdc_engine.report.comparison import comparison_parts
from acdc_engine.report.examples import example_parts
from acdc_engine.report.origin import asked_rows, origin_parts
from acdc_engine.report.pictures import circuit_picture, sizes_picture
from acdc_engine.report.tables import EdgeRows, NodeRows, edge_rows, node_rows, size_rows
from acdc_engine.report.words import READING, headline, spread, title_of
from acdc_engine.viewer.page import viewer_html


def report_html(circuit: Circuit, *, comparison: Comparison | None = None, known: Circuit | None = None) -> str:
    """Renders the report of a circuit: one file, no network, no scripts but its own.

    What is not known of the circuit is left out or said in a line. The interactive viewer is in the file and starts
    when it is opened. The same circuit gives the same text.

    Args:
        circuit: From a run, from `acdc evaluate`, or written by hand.
        comparison: Against a known circuit.
        known: That circuit, laid over the found one in the viewer.

    Returns:
        The HTML.

    Raises:
        CircuitFileError: The known circuit is one of another graph.
    """
    name = {} if comparison is None else {"known_name": comparison.known}
    viewer = viewer_html(circuit, known, **name)
    nodes: NodeRows = node_rows(circuit)
    edges: EdgeRows = edge_rows(circuit)
    return render(
        "report/page.html.j2",
        frames=[viewer],
        viewer=viewer,
        title=title_of(circuit),
        headline=headline(circuit),
        judged=circuit.evaluation is not None,
        remarks=remarks(circuit),
        asked=asked_rows(circuit),
        examples=example_parts(circuit),
        picture=circuit_picture(circuit),
        curve=sizes_picture(circuit),
        sizes=size_rows(circuit),
        figures=figure_rows(circuit),
        level=interval_level(circuit),
        evidence=evidence_of(circuit),
        spreads=[spread(circuit, "stability"), spread(circuit, "necessity")],
        nodes=nodes,
        edges=edges,
        meanings=column_meanings(circuit, edge_columns(circuit)),
        comparison=None if comparison is None else comparison_parts(comparison),
        origin=origin_parts(circuit),
        reading=READING,
    )
