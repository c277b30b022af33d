"""The report of a run: one HTML file to read, to print, and to send to a colleague."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import zip_longest
from typing import TYPE_CHECKING

from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Example, NextToken
from acdc_engine.graph.result_records import Comparison
from acdc_engine.graph.style import measure_of
from acdc_engine.show.figures import classes, edges, figures, sizes
from acdc_engine.show.page import render
from acdc_engine.show.pictures.curve import sizes_figure
from acdc_engine.show.pictures.draw import figure_of
from acdc_engine.show.pictures.figure import svg_text
from acdc_engine.show.pictures.selection import strongest
from acdc_engine.show.remarks import warning
from acdc_engine.show.results import comparison_sections
from acdc_engine.show.viewer import viewer_html
from acdc_engine.show.visible import plain, visible_token
from acdc_engine.show.words import (
    LONGEST,
    cost_of,
    described,
    edge_notes,
    evidence_of,
    facts,
    headline,
    no_reservations,
    origin,
    reading,
    reservations,
    spread,
    title_of,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_NODES = 120
_MOST_TOKENS = 240
"""Tokens shown of a prompt: the first and the last ones."""
_MOST_EXAMPLES = 4
_MOST_TEMPLATES = 40
_MOST_DRAWN = 250
"""Edges drawn; more cannot be told apart on a page."""


def report_html(
    circuit: Circuit,
    *,
    comparison: Comparison | None = None,
    known: Circuit | None = None,
    links: Sequence[tuple[str, str]] = (),
) -> str:
    """Renders the report of a circuit, perhaps against a known one: one file, no network, no scripts but its own.

    What is not known of the circuit is left out or said in a line. The interactive viewer is in the file and starts
    when it is opened; there the known circuit is laid over the found one. The same circuit gives the same text. `links`
    are texts and addresses of what is beside it, where the report is one page of a site.

    Raises:
        CircuitFileError: The known circuit is one of another graph.
    """
    viewer = viewer_html(circuit, known, **({} if comparison is None else {"known_name": comparison.known}))
    evaluation, meanings = circuit.evaluation, described(circuit)
    asked = {
        name: text + (f": {meanings[name]}" if name in meanings else "")
        for name, text in facts(circuit).items()
        if name not in ("Circuit", "Cost")
    }
    return render(
        "report/page.html.j2",
        frames=[viewer],
        viewer=viewer,
        title=title_of(circuit),
        links=links,
        headline=headline(circuit),
        judged=evaluation is not None,
        warning=warning(circuit),
        written=circuit.hand_written,
        remarks=reservations(circuit),
        no_remarks=no_reservations(circuit),
        evaluate=f"acdc evaluate FILE {'' if circuit.prompts else '--task TASK '}--out NEW",
        asked=asked,
        examples=[_example(example) for example in circuit.examples[:_MOST_EXAMPLES]],
        picture=_drawn(circuit),
        curve=_sizes(circuit),
        sizes=sizes(circuit),
        figures=[] if evaluation is None else figures(evaluation, circuit, _MOST_TEMPLATES),
        evidence=evidence_of(circuit),
        spreads=[text for text in (spread(circuit, "stability"), spread(circuit, "necessity")) if text],
        nodes=classes(circuit, _MOST_NODES),
        edges=replace(edges(circuit), notes=edge_notes(circuit)),
        measure=measure_of(circuit),
        comparison=[] if comparison is None else comparison_sections(comparison),
        compared=[] if comparison is None else [_sentence(remark) for remark in comparison.remarks],
        cost="" if circuit.cost is None else cost_of(circuit.cost, stages=True),
        command=plain(circuit.command or ""),
        origin=origin(circuit),
        prompts=bool(circuit.prompts),
        reading=reading(circuit),
    )


def _sentence(text: str) -> str:
    return plain(text[:1].upper() + text[1:], LONGEST)


def _drawn(circuit: Circuit) -> dict[str, object] | None:
    """The circuit, of large ones the strongest edges, or all by role; None for a circuit without edges."""
    if not circuit.edges:
        return None
    shown, note = circuit, ""
    if len(circuit.edges) > _MOST_DRAWN:
        with suppress(CircuitFileError):  # no strengths, or so few edges join nothing: all of it
            shown = strongest(circuit, _MOST_DRAWN)
            drawn = (
                f"the strongest {len(shown.edges):,} of {len(circuit.edges):,} edges that lie on paths of such edges"
            )
            note = f"Drawn are {drawn} from input to logits. All are in the viewer."
    alt = (
        f"The circuit, input at the bottom, logits at the top: {len(shown.nodes):,} nodes, {len(shown.edges):,} edges."
    )
    if len(shown.edges) > _MOST_DRAWN and any(node.role for node in shown.nodes):
        note = f"Drawn by role: {len(shown.edges):,} edges, added up. Each of them is in the viewer."
        return _picture(figure_of(shown, title="", by="role"), alt, note)
    return _picture(figure_of(shown, title=""), alt, note)


def _sizes(circuit: Circuit) -> dict[str, object] | None:
    """Faithfulness against size; None where it was not measured."""
    if not circuit.sizes:
        return None
    return _picture(sizes_figure(circuit), "Faithfulness against number of edges; the table below has the numbers.", "")


def _picture(figure: Figure, alt: str, note: str) -> dict[str, object]:
    """An image: its data URI, what it shows, what it leaves out, and its natural width in pixels of CSS."""
    data = base64.b64encode(svg_text(figure).encode()).decode()
    width = round(96 * figure.get_figwidth())
    return {"uri": f"data:image/svg+xml;base64,{data}", "alt": alt, "note": note, "width": width}


def _example(example: Example) -> dict[str, object]:
    """One pair of prompts: clean beside corrupt, and what the model and the circuit say next."""
    differs = [clean != corrupt for clean, corrupt in zip_longest(example.clean, example.corrupt)]
    return {
        "clean": _tokens(example.clean, differs, example.read_at),
        "corrupt": _tokens(example.corrupt, differs, example.read_at),
        "answers": [visible_token(text) for text in example.answers],
        "wrong_answers": [visible_token(text) for text in example.wrong_answers],
        "next_clean": _likely(example, example.next_clean),
        "next_corrupt": _likely(example, example.next_corrupt),
        "next_circuit": _likely(example, example.next_circuit),
    }


def _tokens(texts: Sequence[str], differs: Sequence[bool], read_at: int) -> list[dict[str, str]]:
    found = []
    for place, text in enumerate(texts):
        marks = ("differs" if differs[place] else "", "read" if place == read_at else "")
        found.append({"text": visible_token(text), "mark": " ".join(mark for mark in marks if mark)})
    if len(found) <= _MOST_TOKENS:
        return found
    half = _MOST_TOKENS // 2
    return [*found[:half], {"text": f"{len(found) - 2 * half:,} more", "mark": "gap"}, *found[-half:]]


def _likely(example: Example, tokens: Sequence[NextToken]) -> list[dict[str, object]]:
    return [
        {
            "text": visible_token(token.text),
            "percent": f"{token.probability:.1%}",
            "width": round(100 * token.probability, 1),
            "right": token.text in example.answers,
            "wrong": token.text in example.wrong_answers,
        }
        for token in tokens
    ]
