"""Circuits that another program wrote again, in the shape that it writes: numbered nodes, lost attributes."""

import json
import re
from pathlib import Path
from typing import Any

import networkx as nx
import pytest

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.attributed import attributed
from acdc_engine.formats.cytoscape_json import cytoscape_text
from acdc_engine.formats.dot import dot_text
from acdc_engine.formats.gexf import gexf_text
from acdc_engine.formats.graphml import graphml_text
from acdc_engine.formats.registry import import_circuit
from acdc_engine.graph.circuit import Circuit
from tests.made_circuits import SMOLLM2, made_circuit

GEPHI_GRAPHML = """<?xml version="1.0" encoding="UTF-8"?><graphml xmlns="http://graphml.graphdrawing.org/xmlns">
<key attr.name="label" attr.type="string" for="node" id="label"/>
<key attr.name="Edge Label" attr.type="string" for="edge" id="edgelabel"/>
<key attr.name="weight" attr.type="double" for="edge" id="weight"/>
<key attr.name="r" attr.type="int" for="node" id="r"/><key attr.name="x" attr.type="float" for="node" id="x"/>
<key attr.name="kind" attr.type="string" for="node" id="node_kind"/>
<key attr.name="role" attr.type="string" for="node" id="node_role"/>
<key attr.name="receiver" attr.type="string" for="edge" id="edge_receiver"/>
<key attr.name="score" attr.type="double" for="edge" id="edge_score"/>
<graph edgedefault="directed">
<node id="input"><data key="label">input</data><data key="r">0</data><data key="x">-3.5</data></node>
<node id="a1.h2"><data key="label">a1.h2</data><data key="node_role">mover</data></node>
<node id="logits"><data key="label">logits</data></node>
<edge id="input-a1.h2-k" label="0" source="input" target="a1.h2"><data key="weight">2.0</data>
<data key="edge_receiver">a1.kv1&lt;k&gt;</data><data key="edge_score">-0.25</data></edge>
<edge id="a1.h2-logits" source="a1.h2" target="logits"><data key="weight">1.0</data></edge>
</graph></graphml>"""

CYTOSCAPE_GRAPHML = """<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
<key attr.name="name" attr.type="string" for="node" id="name"/>
<key attr.name="shared name" attr.type="string" for="node" id="shared name"/>
<key attr.name="SUID" attr.type="long" for="node" id="SUID"/>
<key attr.name="kind" attr.type="string" for="edge" id="kind"/>
<graph edgedefault="directed" id="circuit">
<node id="84"><data key="name">Input</data><data key="shared name">input</data><data key="SUID">84</data></node>
<node id="85"><data key="name">head</data><data key="shared name">a1.h2</data><data key="SUID">85</data></node>
<node id="86"><data key="name">logits</data><data key="shared name">logits</data><data key="SUID">86</data></node>
<edge source="84" target="85"><data key="kind">k</data></edge><edge source="85" target="86"/>
</graph></graphml>"""

IGRAPH_DOT = """/* Created by igraph 1.0.0 */
digraph {
  graph [
    acdc_engine=%s
  ];

  0 [
    role=""
    kind=input
    direct_effect_prompts=NaN
    id=input
  ];
  1 [
    kind=logits
    direct_effect=0.5
    direct_effect_corrupt=-0.5
    direct_effect_prompts=64
    id=logits
  ];

  0 -> 1 [
    score=0.125
    stability=NaN
    receiver=logits
    place=0
  ];
}"""


def numbered(circuit: Circuit, key: str) -> Any:
    """Numbered nodes with names in an attribute; whole numbers as 3.0, NaN and empty texts for what is not known."""
    graph = attributed(circuit)
    for name, facts in graph.nodes(data=True):
        facts[key] = name
        facts.setdefault("role", "")
    for _, _, facts in graph.edges(data=True):
        facts.setdefault("stability", float("nan"))
    for facts in (*(d for _, d in graph.nodes(data=True)), *(d for _, _, d in graph.edges(data=True))):
        facts.update({name: float(value) for name, value in facts.items() if type(value) is int})
    return nx.relabel_nodes(graph, {name: f"n{place}" for place, name in enumerate(graph)})


@pytest.mark.parametrize("key", ["name", "id", "label", "shared_name", "shared name"])
def test_numbered_nodes_are_called_as_an_attribute_says(grouped: Circuit, tmp_path: Path, key: str) -> None:
    nx.write_graphml(numbered(grouped, key), tmp_path / "x.graphml")
    assert import_circuit(tmp_path / "x.graphml") == grouped


def test_numbered_nodes_with_everything(tmp_path: Path) -> None:
    """Direct effects, their numbers of prompts, and all else."""
    made = made_circuit(40, shape=SMOLLM2)
    (tmp_path / "x.json").write_text(json.dumps(nx.node_link_data(numbered(made, "name"), edges="edges")))
    assert import_circuit(tmp_path / "x.json") == made


def test_a_mistaken_name_is_no_number(grouped: Circuit, tmp_path: Path) -> None:
    """The file of an export with one id changed by hand: its label must not stand in for it."""
    graph = numbered(grouped, "label")
    names = nx.get_node_attributes(graph, "label")
    last = max(names, key=lambda node: names[node])
    nx.write_graphml(nx.relabel_nodes(graph, {**names, last: "a9.h9"}), tmp_path / "x.graphml")
    with pytest.raises(CircuitFileError, match=r"node a9\.h9 cannot exist in this model's graph"):
        import_circuit(tmp_path / "x.graphml")


@pytest.mark.parametrize("wrong", ["a1.h2", "a9.h9", ""])
def test_names_must_be_those_of_all_nodes(grouped: Circuit, tmp_path: Path, wrong: str) -> None:
    """a1.h2 would be there twice, a9.h9 does not exist: so the attribute holds no names."""
    graph = numbered(grouped, "label")
    graph.nodes["n0"]["label"] = wrong
    nx.write_graphml(graph, tmp_path / "x.graphml")
    with pytest.raises(CircuitFileError, match="node n0 cannot exist in this model's graph"):
        import_circuit(tmp_path / "x.graphml")


def test_nan_is_refused_where_the_nodes_have_their_own_names(grouped: Circuit, tmp_path: Path) -> None:
    graph = attributed(grouped)
    graph.edges["a1.h3", "logits", "logits"]["score"] = float("nan")
    nx.write_graphml(graph, tmp_path / "x.graphml")
    with pytest.raises(CircuitFileError, match=re.escape("edge a1.h3 -> logits")):
        import_circuit(tmp_path / "x.graphml")


def test_gephis_graphml(grouped: Circuit, tmp_path: Path) -> None:
    """It keeps ids and attributes of nodes and edges, not those of the graph."""
    (tmp_path / "x.graphml").write_text(GEPHI_GRAPHML)
    circuit = import_circuit(tmp_path / "x.graphml", model=grouped.model)
    assert [(edge.sender, edge.receiver, edge.score) for edge in circuit.edges] == [
        ("input", "a1.kv1<k>", -0.25),
        ("a1.h2", "logits", None),
    ]
    assert [node.role for node in circuit.nodes] == [None, "mover", None]


def test_cytoscapes_graphml(grouped: Circuit, tmp_path: Path) -> None:
    """Names can be edited there, shared names cannot."""
    (tmp_path / "x.graphml").write_text(CYTOSCAPE_GRAPHML)
    circuit = import_circuit(tmp_path / "x.graphml", model=grouped.model)
    assert [f"{edge.sender}->{edge.receiver}" for edge in circuit.edges] == ["input->a1.kv1<k>", "a1.h2->logits"]


def test_cytoscape_json_with_numbers_as_ids(grouped: Circuit, tmp_path: Path) -> None:
    content = json.loads(cytoscape_text(grouped))
    numbers = {item["data"]["id"]: place for place, item in enumerate(content["elements"]["nodes"], 70)}
    for item in content["elements"]["nodes"]:
        item["data"].update(id=numbers[item["data"]["id"]], shared_name=item["data"]["name"], name="renamed")
    for item in content["elements"]["edges"]:
        item["data"].update({end: numbers[item["data"][end]] for end in ("source", "target")})
    (tmp_path / "x.cyjs").write_text(json.dumps(content))
    assert import_circuit(tmp_path / "x.cyjs") == grouped


def test_cytoscape_json_of_networkx(grouped: Circuit, tmp_path: Path) -> None:
    graph = nx.cytoscape_graph(json.loads(cytoscape_text(grouped)))
    (tmp_path / "x.cyjs").write_text(json.dumps(nx.cytoscape_data(graph)))
    assert import_circuit(tmp_path / "x.cyjs") == grouped, "attributes of the graph are a list of pairs there"


def test_igraphs_dot(grouped: Circuit, tmp_path: Path) -> None:
    hostile = made_circuit(40, hostile=True, shape=grouped.shape())
    carried = attributed(hostile).graph["acdc_engine"].replace("\\", "\\\\").replace('"', '\\"')
    (tmp_path / "x.dot").write_text(IGRAPH_DOT % f'"{carried}"')
    circuit = import_circuit(tmp_path / "x.dot")
    assert [(edge.receiver, edge.score, edge.stability) for edge in circuit.edges] == [("logits", 0.125, None)]
    assert circuit.model == hostile.model and circuit.examples == hostile.examples
    assert [node.role for node in circuit.nodes] == [None, None]
    assert circuit.nodes[1].direct_effect is not None and circuit.nodes[1].direct_effect.n_prompts == 64


def test_graphviz_breaks_long_texts(grouped: Circuit, tmp_path: Path) -> None:
    text = dot_text(grouped)
    assert text.count("mover") > 1
    (tmp_path / "x.dot").write_text(text.replace("mover", "mo\\\nver"))
    assert import_circuit(tmp_path / "x.dot") == grouped
    (tmp_path / "x.dot").write_bytes(text.replace("mover", "mo\\\r\nver").encode())
    assert import_circuit(tmp_path / "x.dot") == grouped


def test_gexf_of_graphology_says_kinds_only_as_kinds(grouped: Circuit, tmp_path: Path) -> None:
    text = gexf_text(grouped)
    kind = re.search(
        r'<attribute id="(\d+)" title="kind" type="string" />(?=\s*<attribute id="\d+" title="name")', text
    )
    assert kind is not None, "of the edges"
    bare = re.sub(
        rf'<attvalue for="{kind[1]}" value="(q|k|v|mlp|logits)" />|<attvalue for="\d+" value="a[^"]*" />', "", text
    )
    assert len(bare) < len(text)
    (tmp_path / "x.gexf").write_text(bare)
    assert import_circuit(tmp_path / "x.gexf") == grouped


def test_gexf_whose_kinds_mean_something_else(grouped: Circuit, tmp_path: Path) -> None:
    text = re.sub(r'(<edge [^>]*)kind="[a-z]+"', r'\1kind="1"', gexf_text(grouped))
    text = re.sub(r'<attvalue for="\d+" value="(q|k|v|mlp|logits)" />', "", text)
    assert 'kind="1"' in text
    (tmp_path / "x.gexf").write_text(text)
    assert import_circuit(tmp_path / "x.gexf") == grouped


@pytest.mark.parametrize("space", ["http://gexf.net/1.3", "http://www.gexf.net/1.3", "http://www.gexf.net/1.1draft"])
def test_gexf_of_any_version(grouped: Circuit, tmp_path: Path, space: str) -> None:
    (tmp_path / "x.gexf").write_text(gexf_text(grouped).replace("http://www.gexf.net/1.2draft", space))
    assert import_circuit(tmp_path / "x.gexf") == grouped


def test_gephi_would_sum_up_edges_that_do_not_differ_in_kind(grouped: Circuit) -> None:
    """`a0.h1` writes to k and v of `a1.kv1`: two edges between the same nodes."""
    edges = re.findall(
        r'<edge source="([^"]*)" target="([^"]*)" id="[^"]*" label="[^"]*" weight="[^"]*" kind="(\w+)"',
        gexf_text(grouped),
    )
    assert len(edges) == len(set(edges)) == 8 > len({edge[:2] for edge in edges})
    assert 'name=""' not in gexf_text(grouped), "networkx writes it, and the schema does not have it"


def test_graphml_ids_are_as_the_schema_wants_them_and_gephi_too(grouped: Circuit) -> None:
    text = graphml_text(grouped)
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) > 20 and all(re.fullmatch(r"[\w.:-]+", name) for name in ids), "NMTOKEN"
    assert not any(re.fullmatch(r"d\d+", name) for name in ids), "Gephi takes d3 for the labels of nodes"
    assert "a0.h1-a1.kv1-k" in ids and 'key="node_label">a1.h2<' in text and 'key="node_name">a1.h2<' in text
