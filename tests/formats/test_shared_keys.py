"""One shared key or value is one edge, in every format but those of tools in which each query head has its own."""

import json
import re
from io import StringIO
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from rich.console import Console

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.attributed import attributed
from acdc_engine.formats.from_graph import circuit_from_networkx
from acdc_engine.formats.registry import FORMATS, export, import_circuit
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.nodes import targets_of
from acdc_engine.graph.views import with_shared
from acdc_engine.show.text import show
from acdc_engine.show.viewer.data import view_data
from tests.made_circuits import SMOLLM2, made_circuit

SHARED = made_circuit(150, shape=SMOLLM2)
ONE_EACH = ("networkx-json", "graphml", "gexf", "cytoscape", "dot", "csv", "parquet", "engine")
COUNTS: dict[str, Any] = {
    "networkx-json": lambda text: len(json.loads(text)["edges"]),
    "graphml": lambda text: text.count("<edge "),
    "gexf": lambda text: text.count("<edge "),
    "cytoscape": lambda text: len(json.loads(text)["elements"]["edges"]),
    "dot": lambda text: len(re.findall(r'^  "[^"]*" -> ', text, re.MULTILINE)),
    "csv": lambda text: len(text.splitlines()) - 1,
    "engine": lambda text: len(json.loads(text)["edges"]),
}


def test_the_circuit_is_one_in_which_it_matters() -> None:
    """Lines to heads are more than edges."""
    layout, listed = SHARED.layout(), {node.name for node in SHARED.nodes}
    lines = sum(len(listed.intersection(targets_of(layout, edge.receiver)[1])) for edge in SHARED.edges)
    assert lines > len(SHARED.edges) == 150


@pytest.mark.parametrize("fmt", ONE_EACH)
def test_a_file_has_the_edges_of_the_circuit(fmt: str, tmp_path: Path) -> None:
    export(SHARED, fmt, tmp_path / "file")
    if fmt in COUNTS:
        assert COUNTS[fmt]((tmp_path / "file").read_text()) == 150
    if fmt == "csv":
        assert import_circuit(tmp_path / "file", model=SHARED.model).to_dataframe().equals(SHARED.to_dataframe())
    else:
        assert import_circuit(tmp_path / "file") == SHARED


def test_every_format_is_one_or_the_other() -> None:
    each_head_its_own = {"eap", "eap-pt", "auto-circuit", "neuronpedia"}
    assert set(FORMATS) == {*ONE_EACH, *each_head_its_own}


def test_what_is_counted_in_python_and_on_pages() -> None:
    assert SHARED.to_networkx().number_of_edges() == len(SHARED.to_dataframe()) == 150
    data = view_data(SHARED)
    assert len(data.edges) == data.n_edges == 150
    assert sum(node.edges_out for node in data.nodes) == 150
    console = Console(width=200, record=True, file=StringIO())
    console.print(show(SHARED, None))
    assert len(set(re.findall(r"^ *(\S+ -> \S+) ", console.export_text(), re.MULTILINE))) == 150


def test_paths_lead_through_shared_keys_with_the_links() -> None:
    graph = with_shared(SHARED.to_networkx())
    assert all(nx.has_path(graph, "input", node.name) for node in SHARED.nodes)
    assert all(nx.has_path(graph, node.name, "logits") for node in SHARED.nodes)
    assert circuit_from_networkx(with_shared(attributed(SHARED))) == SHARED, "the links are passed over"


def test_edges_into_the_heads_themselves_are_read_as_before() -> None:
    """As the engine wrote them at first, and as other programs' graphs have them."""
    graph = attributed(SHARED)
    old: nx.MultiDiGraph[str] = nx.MultiDiGraph(**graph.graph)
    heads = {name: facts.get("heads", "").split() for name, facts in graph.nodes(data=True)}
    old.add_nodes_from((name, facts) for name, facts in graph.nodes(data=True) if facts["kind"] != "kv")
    for sender, target, key, facts in graph.edges(keys=True, data=True):
        for node in heads[target] or [target]:
            old.add_edge(sender, node, key=key, **facts)
    assert old.number_of_edges() > 150
    assert circuit_from_networkx(old) == SHARED


def test_a_graph_by_hand_may_have_groups_as_nodes() -> None:
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_edge("input", "a0.kv1", key="k", score=0.5)
    graph.add_edge("a0.h4", "logits")
    made = circuit_from_networkx(graph, SHARED.model)
    assert [f"{edge.sender}->{edge.receiver}" for edge in made.edges] == ["input->a0.kv1<k>", "a0.h4->logits"]
    assert [node.name for node in made.nodes] == ["input", "a0.h4", "logits"] and "now reach" not in str(made.source)


def test_groups_are_named_as_nodes_where_a_file_names_them_wrongly() -> None:
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_edge("input", "a0.kv9", key="k")
    with pytest.raises(CircuitFileError, match=r"node a0\.kv9 cannot exist in this model's graph"):
        circuit_from_networkx(graph, SHARED.model)
    plain = Circuit.load("gpt2/ioi").model
    with pytest.raises(CircuitFileError, match=r"node a0\.kv1 cannot exist in this model's graph"):
        circuit_from_networkx(nx.MultiDiGraph([("input", "a0.kv1")]), plain)
