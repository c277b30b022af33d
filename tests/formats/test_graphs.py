"""Graphs opened by networkx's readers, Graphviz and cytoscape.js; node-link JSON and graphs by hand as circuits."""

import io
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from playwright.sync_api import Browser

from acdc_engine.errors import CircuitFileError, ModelNeededError
from acdc_engine.formats.graphs import attributed, circuit_from_networkx
from acdc_engine.formats.register import import_circuit
from acdc_engine.graph.circuit import Circuit
from acdc_engine.show.page import static
from tests.browser import opened
from tests.formats.conftest import GROUPED, refused, text_of
from tests.made_circuits import SMOLLM2, made_circuit

Plain = tuple[dict[str, Any], list[tuple[str, str, dict[str, Any]]]]
Edit = Callable[[Any], object]
ADDED = {"viz", "label", "weight", "id", "key", "value", "name", "source", "target"}
"""What formats add to the attributes of nodes and edges for the programs that draw them."""
SHARED = made_circuit(150, shape=SMOLLM2)


def read_back(circuit: Circuit, fmt: str) -> Any:
    """The graph as networkx reads it."""
    text = text_of(circuit, fmt)
    return {
        "networkx-json": lambda: nx.node_link_graph(json.loads(text), edges="edges"),
        "graphml": lambda: nx.read_graphml(io.BytesIO(text.encode()), force_multigraph=True),
        "gexf": lambda: nx.read_gexf(io.BytesIO(text.encode())),
        "cytoscape": lambda: nx.cytoscape_graph(json.loads(text)),
    }[fmt]()


READERS = ["networkx-json", "graphml", "gexf", "cytoscape"]


def plain(graph: Any) -> Plain:
    """Nodes and edges with the circuit's attributes; keys of parallel edges are the format's business."""
    edges = [(u, v, {key: a[key] for key in a.keys() - ADDED}) for u, v, a in graph.edges(data=True)]
    nodes = {name: {key: a[key] for key in a.keys() - ADDED} for name, a in graph.nodes(data=True)}
    return nodes, sorted(edges, key=lambda edge: (edge[2]["place"], edge[1]))


@pytest.mark.parametrize("fmt", READERS)
@pytest.mark.parametrize("which", ["grouped", "everything", "shared"])
def test_networkx_reads_the_same_graph(grouped: Circuit, fmt: str, which: str) -> None:
    """With exactly the circuit's edges: one into keys or values that heads share is one."""
    circuit = {"grouped": grouped, "everything": made_circuit(60), "shared": SHARED}[which]
    graph = read_back(circuit, fmt)
    assert plain(graph) == plain(attributed(circuit)) and graph.number_of_edges() == len(circuit.edges)
    assert list(read_back(grouped.model_copy(update={"nodes": (), "edges": ()}), fmt)) == []


@pytest.mark.parametrize("fmt", [*READERS, "dot"])
def test_hostile_texts_and_the_same_file(fmt: str) -> None:
    """XML cannot hold control characters: they are written as a backslash, u and four digits."""
    circuit = made_circuit(60, seed=3, hostile=True)
    text = text_of(circuit, fmt)
    assert text == text_of(Circuit.model_validate(circuit.model_dump()), fmt) and "lastmodified" not in text
    if fmt != "dot":
        roles = {node.name: node.role for node in circuit.nodes if node.role}
        assert any("\x00" in role for role in roles.values())
        found = {name: role for name, role in read_back(circuit, fmt).nodes(data="role") if role}
        if fmt in ("graphml", "gexf"):
            roles = {name: role.replace("\x00", r"\u0000").replace("\x07", r"\u0007") for name, role in roles.items()}
        assert {name: found[name] for name in roles} == roles


def test_attributes_of_an_edge_and_a_node(grouped: Circuit) -> None:
    graph = read_back(grouped, "graphml")
    assert graph.edges["a0.h1", "a1.kv1", "a0.h1-a1.kv1-k"] == {
        "kind": "k",
        "name": "a0.h1->a1.kv1<k>",
        "receiver": "a1.kv1<k>",
        "score": 0.125,
        "effect": 0.25,
        "receiver_role": 'the "mover"',
        "place": 2,
    }
    named = {"name": "a1.h2", "label": "a1.h2", "kind": "head", "position": 8, "layer": 1, "head": 2}
    assert graph.nodes["a1.h2"] == {**named, "role": 'the "mover"'}
    named = {"name": "a1.kv1", "label": "a1.kv1", "kind": "kv", "position": 8, "layer": 1, "heads": "a1.h2 a1.h3"}
    assert graph.nodes["a1.kv1"] == named
    assert graph.graph["model"] == "tiny [v1]"


def test_measured_figures_of_nodes_are_attributes() -> None:
    circuit = made_circuit(30)
    node = next(node for node in circuit.nodes if node.role_scores)
    facts = read_back(circuit, "graphml").nodes[node.name]
    assert node.direct_effect is not None and facts["direct_effect"] == node.direct_effect.clean
    assert (facts["direct_effect_corrupt"], facts["direct_effect_prompts"]) == (node.direct_effect.corrupt, 64)
    assert [score["value"] for score in json.loads(facts["role_scores"])] == [s.value for s in node.role_scores]


def test_graphml_ids_are_unique(grouped: Circuit) -> None:
    root = ElementTree.fromstring(text_of(grouped, "graphml").encode())
    for kind, count in (("edge", 8), ("key", len(list(root.iter("{http://graphml.graphdrawing.org/xmlns}key"))))):
        ids = [item.get("id") for item in root.iter(f"{{http://graphml.graphdrawing.org/xmlns}}{kind}")]
        assert len(ids) == len(set(ids)) == count


def test_gexf_has_weights_colours_and_places(grouped: Circuit) -> None:
    graph = read_back(grouped, "gexf")
    assert graph.edges["a1.h3", "logits", "logits"]["weight"] == 0.75
    root = ElementTree.fromstring(text_of(grouped, "gexf").encode())
    (edge,) = root.iterfind(".//{*}edge[@id='a1.h3->logits']")
    colour = edge.find("{*}color")
    assert colour is not None and colour.attrib == {"r": "213", "g": "94", "b": "0", "a": "1.0"}, "#D55E00: negative"
    assert min(weight for _, _, weight in graph.edges(data="weight")) > 0
    places = {name: (viz["position"]["x"], viz["position"]["y"]) for name, viz in graph.nodes(data="viz")}
    assert places == {
        "input": (0, 0), "a0.h1": (0, 70), "m0": (0, 140), "a1.kv1": (0, 210), "a1.h2": (-45, 280), "a1.h3": (45, 280),
        "logits": (0, 350),
    }  # fmt: skip


PAGE = """<!doctype html><meta charset="utf-8"><div id="graph" style="width: 600px; height: 400px"></div>
<script>{library}</script><script>
const file = {content};
const container = document.getElementById("graph");
const cy = cytoscape({{container, elements: file.elements, layout: {{name: "preset"}}}});
</script>"""


def test_cytoscape_js_opens_it(browser: Browser, tmp_path: Path) -> None:
    circuit = made_circuit(200, hostile=True)
    content = text_of(circuit, "cytoscape").replace("</", "<\\/")
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


TEXT = r'"(?:[^"\\]|\\.)*"'
NODE = re.compile(rf"({TEXT}) \[label=({TEXT}), shape=\"(\w+)\"")
EDGE = re.compile(
    r'^  "([^"]+)" -> "([^"]+)" \[color="(#\w{6})", penwidth="([\d.]+)", style="(\w+)", tooltip="([^"]*)", (.*)\];$',
    re.M,
)


def test_dot_edges_with_colour_style_width_and_figures(grouped: Circuit) -> None:
    text = text_of(grouped, "dot")
    edges = {(s, t, style): (colour, float(width), tip) for s, t, colour, width, style, tip, _ in EDGE.findall(text)}
    assert {(s, t) for s, t, _ in edges} == {(s, t) for s, t, _ in grouped.to_networkx().edges}
    assert edges["input", "a0.h1", "dashed"] == ("#0072B2", 2.25, "input->a0.h1<q> +1")
    assert edges["a0.h1", "a1.kv1", "dotted"] == ("#0072B2", 1.38, "a0.h1->a1.kv1<k> +0.25")
    assert edges["a1.h3", "logits", "solid"][0] == "#D55E00"
    assert edges["a1.h2", "logits", "solid"][1] == max(width for _, width, _ in edges.values()) == 4.0
    facts = {(s, t): facts for s, t, *_, facts in EDGE.findall(text)}
    assert facts["input", "m0"] == 'kind="mlp", receiver="m0", score="-0.25", effect="-0.5", place="1"'
    assert r'sender_role="the \"mover\""' in facts["a1.h2", "logits"]
    unknown = tuple(edge.model_copy(update={"score": None, "effect": None}) for edge in grouped.edges)
    found = EDGE.findall(text_of(grouped.model_copy(update={"edges": unknown}), "dot"))
    assert len(found) == 8 and {colour for _, _, colour, *_ in found} == {"#777777"}


def test_dot_ranks_labels_and_sign(grouped: Circuit) -> None:
    text = text_of(grouped, "dot")
    ranks = [[name for name, _, _ in NODE.findall(line)] for line in text.splitlines() if "rank=" in line]
    assert ranks == [['"input"'], ['"a0.h1"'], ['"m0"'], ['"a1.h2"', '"a1.h3"', '"a1.kv1"'], ['"logits"']]
    assert "rank=min" in text and "rank=max" in text and "rankdir=BT" in text
    assert {name: label for name, label, _ in NODE.findall(text)}['"a1.h2"'] == r'"a1.h2\nthe \"mover\""'
    assert "positive: the edge supports the behaviour" in text
    nodes = tuple(node.model_copy(update={"role": 'a\\b"c\n\x00' if node.role else None}) for node in grouped.nodes)
    assert r'role="a\\b\"c\n\\u0000"' in text_of(grouped.model_copy(update={"nodes": nodes}), "dot")


@pytest.mark.skipif(shutil.which("dot") is None, reason="no graphviz: apt-get install graphviz")
@pytest.mark.parametrize("hostile", [False, True])
def test_graphviz_draws_it(hostile: bool) -> None:
    text = text_of(made_circuit(40, hostile=hostile), "dot").encode()
    done = subprocess.run(["dot", "-Tsvg"], input=text, capture_output=True, check=True)
    svg = done.stdout.decode()
    assert svg.count('class="edge"') == 40 and not done.stderr and "<script" not in svg


def by_hand() -> Any:
    """As a user makes it: names, keys q, k and v, and a score."""
    graph: Any = nx.MultiDiGraph()
    graph.add_edge("input", "a0.h1", key="q", score=0.5)
    graph.add_edge("a0.h1", "a1.h2", key="q", score=0.25, weight=3.0)
    graph.add_edge("a0.h1", "a1.kv1", kind="v", score=1)
    graph.add_edge("input", "m0")
    graph.add_edge("m0", "logits", effect=-2.0)
    graph.add_edge("a1.h2", "logits")
    graph.nodes["a0.h1"]["role"] = "previous token"
    graph.nodes["m0"]["colour"] = "red"
    return graph


def test_a_graph_by_hand() -> None:
    circuit = circuit_from_networkx(by_hand(), GROUPED)
    assert {f"{edge.sender}->{edge.receiver}": (edge.score, edge.effect) for edge in circuit.edges} == {
        "input->a0.h1<q>": (0.5, None),
        "input->m0": (None, None),
        "a0.h1->a1.h2<q>": (0.25, None),
        "a0.h1->a1.kv1<v>": (1.0, None),
        "m0->logits": (None, -2.0),
        "a1.h2->logits": (None, None),
    }
    assert circuit.edges[2].sender_role == "previous token" and circuit.source == "the graph, a networkx graph"
    assert [node.name for node in circuit.nodes] == ["input", "a0.h1", "m0", "a1.h2", "logits"]
    linked = circuit_from_networkx(SHARED.to_networkx(shared=True), SHARED.model)
    assert linked.nodes == tuple(
        n.model_copy(update={"direct_effect": None, "role_scores": (), "inclusion": None}) for n in SHARED.nodes
    )
    assert [(e.sender, e.receiver) for e in linked.edges] == [(e.sender, e.receiver) for e in SHARED.edges]


def change(edge: tuple[str, str, str | int], **facts: Any) -> Edit:
    return lambda graph: graph.edges[edge].update(facts)


Q, LOGITS = ("a0.h1", "a1.h2", "q"), ("m0", "logits", 0)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda g: g.add_edge("a9.h0", "logits"), "(a9.h0 -> logits) cannot exist in this model's graph: No sender"),
        (lambda g: g.nodes["m0"].update(role=3), "nodes.4.role is 3: input should be a valid string"),
        (lambda g: g.add_edge("input", "a1.h2"), "(input -> a1.h2) cannot exist .* say which input"),
        (lambda g: g.add_edge("input", "a1.h2", "k"), "(input -> a1.h2) cannot exist .* shares its k, write a1.kv1"),
        (lambda g: g.add_edge("m0", "logits"), "m0->logits is listed twice"),
        (change(Q, receiver="a1.kv0<k>"), "(a0.h1 -> a1.h2): its receiver a1.kv0<k> is no part of a1.h2"),
        (change(Q, score="0.5"), "score is '0.5': input should be a valid number"),
        (change(Q, effect=float("nan")), "effect is nan: input should be a finite number"),
        (change(Q, score={1, 2}), "(a0.h1 -> a1.h2) has a value that is neither text nor number"),
    ],
)
def test_what_is_refused(edit: Edit, message: str) -> None:
    graph = by_hand()
    edit(graph)
    with pytest.raises(CircuitFileError, match=re.escape(message).replace(r"\ \.\*\ ", " .* ")) as caught:
        circuit_from_networkx(graph, GROUPED)
    assert str(caught.value).startswith("the graph: ")


@pytest.mark.parametrize("end", ["a0.h1" + "9" * 5_000, "m" + "9" * 5_000, "x" * 50_000])
def test_long_names_are_cut_in_messages(end: str) -> None:
    """And Python makes no numbers of more than 4,300 digits."""
    graph = by_hand()
    graph.add_edge("input", end)
    with pytest.raises(CircuitFileError, match="cannot exist in this model's graph") as caught:
        circuit_from_networkx(graph, GROUPED)
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("nodes"), "no directed graph in networkx's node-link form:\n  nodes is missing"),
        (lambda c: c.update(directed=False), "directed is False: input should be True"),
        (lambda c: c["nodes"].append("a0.h1"), "nodes.7 is 'a0.h1': input should be a valid dictionary"),
        (lambda c: c["edges"][0].update(source=True), "sender is True: input should be a valid string"),
    ],
)
def test_damaged_node_link_json(found: Circuit, tmp_path: Path, edit: Edit, message: str) -> None:
    path, content = tmp_path / "x.networkx.json", json.loads(text_of(found, "networkx-json"))
    edit(content)
    path.write_text(json.dumps(content))
    refused(path, re.escape(message), "networkx-json", found.model)


def test_node_link_json_with_links_and_without_a_model(found: Circuit, tmp_path: Path) -> None:
    """What was measured on the whole circuit is not in it: an edited graph cannot claim it."""
    path, content = tmp_path / "x.json", json.loads(text_of(found, "networkx-json"))
    content["links"] = content.pop("edges")
    path.write_text(json.dumps(content))
    read = import_circuit(path, fmt="networkx-json", model=found.model)
    assert [edge.effect for edge in read.edges] == [edge.effect for edge in found.edges] and read.evaluation is None
    with pytest.raises(ModelNeededError, match=r"which does not say of which model: .* --model, or with --like"):
        import_circuit(path)
