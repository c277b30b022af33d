"""What the viewer leaves out of edges: the page says so, and what was left out can still be found."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from acdc_engine.show.viewer import drawn as drawn_module
from tests.made_circuits import made_circuit
from tests.show.viewer.pages import drawn_nodes, reset, shown

N_LINES = 20


CIRCUIT = made_circuit(200)
KNOWN = made_circuit(150, seed=1)
HERE = {(edge.sender, edge.receiver) for edge in CIRCUIT.edges}
MISSED = [edge for edge in KNOWN.edges if (edge.sender, edge.receiver) not in HERE]


@pytest.fixture(scope="module")
def opened_page(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """At most so few lines, half of them missed ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawn_module, "MOST_LINES", N_LINES)
        with shown(browser, tmp_path_factory.mktemp("left-out") / "view.html", CIRCUIT, KNOWN) as page:
            yield page


@pytest.fixture
def page(opened_page: Page) -> Page:
    reset(opened_page)
    return opened_page


def test_which_edges_are_hidden_is_said_of_either_circuit(page: Page) -> None:
    expect(page.locator("#notice")).to_have_text(
        "Too many edges to draw: 190 edges, the weakest, are hidden; the circuit file has all. "
        f"{len(MISSED) - 10} missed edges, the last of the known circuit, are hidden; that circuit's file has all."
    )
    said = page.locator("#overlay-counts")
    expect(said).to_contain_text(f"{len(MISSED)} missed")  # of all, hidden or not


@pytest.mark.parametrize("whose", ["own", "missed"])
def test_a_node_whose_edges_are_all_hidden_is_found(page: Page, whose: str) -> None:
    drawn = drawn_nodes(page)
    ours, known = ({node.name for node in circuit.nodes} for circuit in (CIRCUIT, KNOWN))
    lost = sorted((ours if whose == "own" else known - ours) - drawn)
    assert lost, "some node has no line"
    page.locator("#search").fill(lost[0])
    page.keyboard.press("Enter")
    assert page.evaluate("acdc.page.graph.chosen") == lost[0] and lost[0] in drawn_nodes(page)
    expect(page.locator("#lonely")).not_to_be_checked()
    expect(page.locator("#panel h2")).to_have_text(lost[0])
    expect(page.locator("#panel")).to_contain_text("Its edges are not drawn in this page: there are too many.")
    expect(page.locator("#panel")).not_to_contain_text("edges in (0)")
    reset(page)
    expect(page.locator("#lonely")).to_be_checked()
    assert drawn_nodes(page) == drawn
