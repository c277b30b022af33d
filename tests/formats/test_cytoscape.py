"""Cytoscape JSON, opened by cytoscape.js itself in a browser, and as Cytoscape writes it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.cytoscape_json import cytoscape_text
from acdc_engine.formats.registry import import_circuit
from acdc_engine.graph.circuit import Circuit
from acdc_engine.show.page import static
from tests.browser import opened
from tests.made_circuits import made_circuit

PAGE = """<!doctype html><meta charset="utf-8"><div id="graph" style="width: 600px; height: 400px"></div>
<script>{library}</script><script>
const file = {content};
const container = document.getElementById("graph");
const cy = cytoscape({{container, elements: file.elements, layout: {{name: "preset"}}}});
</script>"""


def test_cytoscape_js_opens_it(browser: Browser, tmp_path: Path) -> None:
    circuit = made_circuit(200, hostile=True)
    content = cytoscape_text(circuit).replace("</", "<\\/")
    (tmp_path / "x.html").write_text(PAGE.format(library=static("html/cytoscape.min.js"), content=content))
    with opened(browser, tmp_path / "x.html") as page:
        assert page.evaluate("[cy.nodes().length, cy.edges().length]") == [len(circuit.nodes), 200]
        edge = circuit.edges[17]
        found = page.evaluate("edge => cy.edges().filter(e => e.data('place') === edge).data()", 17)
        assert (found["source"], found["receiver"], found["score"]) == (edge.sender, edge.receiver, edge.score)
        assert page.evaluate("cy.$id('input').position().y > cy.$id('logits').position().y"), "y grows downwards"
        assert page.evaluate("cy.$id('logits').incomers('edge').length > 0")
        roles = page.evaluate("cy.nodes().map(node => node.data('role') ?? null)")
        assert roles == [node.role for node in circuit.nodes]
        rewritten = page.evaluate("({...cy.json(), data: file.data})")
    (tmp_path / "again.cyjs").write_text(json.dumps(rewritten))
    assert import_circuit(tmp_path / "again.cyjs", fmt="cytoscape") == circuit, "what cytoscape.js writes is read"


def test_one_list_of_elements(grouped: Circuit, tmp_path: Path) -> None:
    content = json.loads(cytoscape_text(grouped))
    content["elements"] = [*content["elements"]["nodes"], *content["elements"]["edges"]]
    (tmp_path / "x.json").write_text(json.dumps(content))
    assert import_circuit(tmp_path / "x.json", fmt="cytoscape") == grouped


def test_cytoscape_itself_numbers_its_nodes(grouped: Circuit, tmp_path: Path) -> None:
    """And adds keys of its own; the network's data has its texts."""
    content = json.loads(cytoscape_text(grouped))
    numbers = {item["data"]["id"]: str(place) for place, item in enumerate(content["elements"]["nodes"], 70)}
    for item in content["elements"]["nodes"]:
        item["data"].update(id=numbers[item["data"]["id"]], SUID=1, shared_name=item["data"]["name"], selected=False)
    for place, item in enumerate(content["elements"]["edges"], 90):
        data = item["data"]
        data.update(id=str(place), SUID=place, source=numbers[data["source"]], target=numbers[data["target"]])
    content["data"].update(SUID=5, name="circuit", __Annotations=[])
    (tmp_path / "x.cyjs").write_text(json.dumps(content))
    assert import_circuit(tmp_path / "x.cyjs", fmt="cytoscape") == grouped


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("elements"), "is no Cytoscape JSON: it needs the key elements"),
        (lambda c: c.update(elements=3), "elements is neither a list nor an object with nodes and edges"),
        (lambda c: c["elements"].update(nodes=3), "nodes is no list"),
        (lambda c: c["elements"]["nodes"][0].pop("data"), "elements.nodes.0 has no data"),
        (lambda c: c["elements"]["edges"][0]["data"].update(target=[3]), "elements.edges.0.data.target is '[3]'"),
        (lambda c: c["elements"]["edges"][0]["data"].update(target="m1"), "m1 is not among the nodes"),
        (lambda c: c["elements"]["edges"][0]["data"].update(target=3), "3 is not among the nodes"),
    ],
)
def test_what_is_refused(grouped: Circuit, tmp_path: Path, edit: Callable[[Any], object], message: str) -> None:
    content = json.loads(cytoscape_text(grouped))
    edit(content)
    (tmp_path / "x.cyjs").write_text(json.dumps(content))
    with pytest.raises(CircuitFileError, match=re.escape(message)):
        import_circuit(tmp_path / "x.cyjs", fmt="cytoscape")
