"""The viewer's page in a real browser: opening it, and asking it what it shows."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import networkx as nx
from playwright.sync_api import Browser, Page

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.nodes import targets_of
from acdc_engine.graph.records import CircuitEdge
from acdc_engine.show.viewer import viewer_html
from tests.browser import opened

MINUS = "\N{MINUS SIGN}"
"""Which pages write before negative numbers."""


@contextmanager
def shown(
    browser: Browser, path: Path, circuit: Circuit, known: Circuit | None = None, **settings: Any
) -> Iterator[Page]:
    """The page of a circuit, perhaps beside a known one, written to a path and drawn in a browser of those settings."""
    path.write_text(viewer_html(circuit, known), encoding="utf-8")
    with opened(browser, path, **settings) as page:
        page.wait_for_selector("html[data-ready]")
        yield page


def reset(page: Page) -> None:
    """Nothing chosen, no filters, everything in view."""
    page.keyboard.press("Escape")
    page.evaluate("acdc.page.graph.select(null); document.activeElement.blur()")
    page.evaluate("document.getElementById('reset').click()")
    page.evaluate("acdc.page.graph.fit()")


def boxes(page: Page, selector: str) -> set[str]:
    """Ids of boxes of the picture, by cytoscape's selectors."""
    return set(page.evaluate(f"acdc.page.graph.cy.nodes({selector!r}).map((found) => found.id())"))


def looks(page: Page) -> dict[str, dict[str, Any]]:
    """How every line is drawn at present, by its id: see `looks` in lines.js."""
    script = "Object.fromEntries(acdc.page.data.edges.map(({ id }) => [id, acdc.page.graph.lines.looks(id)]))"
    found: dict[str, dict[str, Any]] = page.evaluate(script)
    return found


def lines(page: Page, how: str) -> set[str]:
    """Lines that are drawn and are "traced", "faded", "chosen" or "fine"."""
    return {name for name, look in looks(page).items() if look["shown"] and look[how]}


def drawn_edges(page: Page) -> set[str]:
    """Lines that no filter hides."""
    return lines(page, "shown")


def drawn_nodes(page: Page) -> set[str]:
    """Boxes that no filter hides, by their style: cytoscape's `:visible` may be that of the last frame."""
    script = "acdc.page.graph.cy.nodes('.box').filter((found) => found.style('display') === 'element')"
    return set(page.evaluate(f"{script}.map((found) => found.id())"))


def centre_of(page: Page, id: str) -> tuple[float, float]:
    """Where in the window a node's box, or the middle of a line, is."""
    place = page.evaluate(
        """(id) => {
            const at = acdc.page.graph.placeOf(id);
            const box = acdc.page.graph.cy.container().getBoundingClientRect();
            return [box.left + at.x, box.top + at.y];
        }""",
        id,
    )
    return place[0], place[1]


def colour_at(page: Page, id: str) -> tuple[int, int, int, int]:
    """Red, green, blue and alpha that the picture's canvas has in the middle of a line, seen from near."""
    page.evaluate(
        """(id) => {
            const { cy, lines } = acdc.page.graph;
            const { x, y } = lines.middle(id);
            cy.viewport({ zoom: 3, pan: { x: cy.width() / 2 - 3 * x, y: cy.height() / 2 - 3 * y } });
        }""",
        id,
    )
    next_frame(page)
    found = page.evaluate(
        """() => {
            const canvas = document.querySelector("#graph canvas[data-id=layer2-node]");
            const copy = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
            copy.drawImage(canvas, -Math.floor(canvas.width / 2), -Math.floor(canvas.height / 2));
            return [...copy.getImageData(0, 0, 1, 1).data];
        }"""
    )
    return found[0], found[1], found[2], found[3]


def click(page: Page, id: str) -> None:
    """Clicks into a node's box."""
    page.mouse.click(*centre_of(page, id))


def lines_of(circuit: Circuit) -> dict[str, CircuitEdge]:
    """The lines that a page draws, by id: one for each head that an edge leads to."""
    return {name: edge for name, edge, _ in _lines(circuit)}


def _lines(circuit: Circuit) -> Iterator[tuple[str, CircuitEdge, str]]:
    """Name, edge and target of every line."""
    layout, listed = circuit.graph(), {node.name for node in circuit.nodes}
    for edge in circuit.edges:
        kind, targets = targets_of(layout, edge.receiver)
        for target in listed.intersection(targets):
            yield f"{edge.sender}->{target}" + (f"<{kind}>" if kind in ("q", "k", "v") else ""), edge, target


def paths_through(circuit: Circuit, node: str) -> tuple[set[str], set[str]]:
    """Nodes and lines on paths from input to logits through a node."""
    graph = nx.DiGraph([(edge.sender, target) for _, edge, target in _lines(circuit)])
    before, after = {node, *nx.ancestors(graph, node)}, {node, *nx.descendants(graph, node)}
    before &= {"input", *nx.descendants(graph, "input")}
    after &= {"logits", *nx.ancestors(graph, "logits")}
    lines = {
        name
        for name, edge, target in _lines(circuit)
        if {edge.sender, target} <= before or {edge.sender, target} <= after
    }
    return before | after, lines


def next_frame(page: Page) -> None:
    """Waits until the page has been drawn anew, after which it knows of changed media."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))")


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
