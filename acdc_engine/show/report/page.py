"""The report of a run: one HTML file to read, to print, and to send to a colleague."""

from __future__ import annotations

from collections.abc import Sequence

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.result_records import Comparison
from acdc_engine.show.figure_tables import ablated_name, answer_rows, figure_rows, interval_level, template_rows
from acdc_engine.show.page import render
from acdc_engine.show.remarks import warning
from acdc_engine.show.report.comparison import comparison_parts
from acdc_engine.show.report.examples import example_parts
from acdc_engine.show.report.glossary import edge_meanings, reading
from acdc_engine.show.report.origin import asked_rows, origin_parts
from acdc_engine.show.report.pictures import circuit_picture, sizes_picture
from acdc_engine.show.report.tables import EdgeRows, NodeRows, edge_rows, node_rows, size_rows
from acdc_engine.show.report.words import evaluate_command, headline, no_reservations, reservations, spread, title_of
from acdc_engine.show.text import evidence_of
from acdc_engine.show.viewer.page import viewer_html

MOST_TEMPLATES = 40
"""Templates in the table, the worst first."""


def report_html(
    circuit: Circuit,
    *,
    comparison: Comparison | None = None,
    known: Circuit | None = None,
    links: Sequence[tuple[str, str]] = (),
) -> str:
    """Renders the report of a circuit: one file, no network, no scripts but its own.

    What is not known of the circuit is left out or said in a line. The interactive viewer is in the file and starts
    when it is opened. The same circuit gives the same text.

    Args:
        circuit: From a run, from `acdc evaluate`, or written by hand.
        comparison: Against a known circuit.
        known: That circuit, laid over the found one in the viewer.
        links: Pages and files beside it, texts to addresses, where the report is one page of a site.

    Returns:
        The HTML.

    Raises:
        CircuitFileError: The known circuit is one of another graph.
    """
    name = {} if comparison is None else {"known_name": comparison.known}
    viewer = viewer_html(circuit, known, **name)
    nodes: NodeRows = node_rows(circuit)
    edges: EdgeRows = edge_rows(circuit)
    objective = "faithfulness" if circuit.search is None else circuit.search.objective
    templates = [] if circuit.evaluation is None else template_rows(circuit.evaluation, objective)
    return render(
        "report/page.html.j2",
        frames=[viewer],
        viewer=viewer,
        title=title_of(circuit),
        links=links,
        headline=headline(circuit),
        judged=circuit.evaluation is not None,
        warning=warning(circuit),
        written=circuit.hand_written,
        remarks=reservations(circuit),
        no_remarks=no_reservations(circuit),
        evaluate=evaluate_command(circuit),
        asked=asked_rows(circuit),
        examples=example_parts(circuit),
        picture=circuit_picture(circuit),
        curve=sizes_picture(circuit),
        sizes=size_rows(circuit),
        figures=figure_rows(circuit),
        level=interval_level(circuit),
        templates=templates[:MOST_TEMPLATES],
        more_templates=max(0, len(templates) - MOST_TEMPLATES),
        answers=[] if circuit.evaluation is None else answer_rows(circuit.evaluation),
        ablated=ablated_name(circuit),
        evidence=evidence_of(circuit),
        spreads=[spread(circuit, "stability"), spread(circuit, "necessity")],
        nodes=nodes,
        edges=edges,
        meanings=edge_meanings(circuit, edges.columns),
        comparison=None if comparison is None else comparison_parts(comparison),
        origin=origin_parts(circuit),
        prompts=bool(circuit.prompts),
        reading=reading(circuit),
    )
