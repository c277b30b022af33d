"""Every format there and back: the whole circuit, or all that the format says it keeps."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acdc_engine.formats.registry import FORMATS, export, import_circuit
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.names import GraphShape
from acdc_engine.graph.nodes import with_roles
from tests.made_circuits import GPT2, HOSTILE, SMOLLM2, made_circuit

WHOLE = ["engine", "networkx-json", "graphml", "gexf", "cytoscape", "dot", "parquet", "neuronpedia"]
Back = Callable[[Circuit, str], Circuit]


@pytest.fixture(scope="session")
def back(tmp_path_factory: pytest.TempPathFactory) -> Back:
    """A circuit written in a format and read again, without being told the format or, where it is known, the model."""
    folder = tmp_path_factory.mktemp("formats")

    def there_and_back(circuit: Circuit, fmt: str) -> Circuit:
        path = folder / f"file.{FORMATS[fmt].suffix}"
        export(circuit, fmt, path, overwrite=True)
        return import_circuit(path, model=None if fmt in WHOLE else circuit.model)

    return there_and_back


def test_these_formats_say_that_they_lose_nothing() -> None:
    assert [name for name, fmt in FORMATS.items() if not fmt.lossy] == WHOLE


@given(data=st.data())
@settings(max_examples=20)
def test_any_circuit(back: Back, any_circuit: st.SearchStrategy[Circuit], data: st.DataObject) -> None:
    """One circuit in all formats: to draw it takes longer than to write it. Neuronpedia has a test of its own."""
    circuit = data.draw(any_circuit)
    for fmt in WHOLE[:-1]:
        assert back(circuit, fmt) == circuit, fmt


@pytest.mark.parametrize("fmt", WHOLE)
@pytest.mark.parametrize("shape", [GPT2, SMOLLM2])
def test_hostile_texts(back: Back, fmt: str, shape: object) -> None:
    circuit = made_circuit(60, seed=3, shape=SMOLLM2 if shape is SMOLLM2 else GPT2, hostile=True)
    texts = {node.role for node in circuit.nodes} | {circuit.model.name, circuit.command}
    assert set(HOSTILE) <= {text for text in texts if text}, "the circuit has every one of them"
    assert back(circuit, fmt) == circuit


@given(data=st.data())
@settings(max_examples=30)
def test_csv_keeps_edges_figures_and_roles(
    back: Back, any_circuit: st.SearchStrategy[Circuit], data: st.DataObject
) -> None:
    """Heads without an edge of their own, whose group has edges, are not in a table of edges; nor are empty roles."""
    circuit = data.draw(any_circuit)
    nodes = tuple(node.model_copy(update={"role": node.role or None}) for node in circuit.nodes)
    circuit = circuit.model_copy(update={"nodes": nodes})
    read = back(circuit, "csv")
    bare = [edge.model_copy(update={"sender_role": None, "receiver_role": None}) for edge in circuit.edges]
    assert [edge.model_copy(update={"sender_role": None, "receiver_role": None}) for edge in read.edges] == bare
    senders = {edge.sender for edge in circuit.edges}
    roles = {node.name: node.role for node in circuit.nodes if node.name in senders}
    assert {node.name: node.role for node in read.nodes if node.name in senders} == roles
    assert read.source == "file.csv, a table of edges"


@pytest.mark.parametrize("fmt", sorted(set(FORMATS) - set(WHOLE)))
def test_lossy_formats_keep_the_edges_and_their_scores(back: Back, fmt: str) -> None:
    circuit = made_circuit(40, seed=3, shape=GraphShape(4, 6, 3))
    if FORMATS[fmt].read is not None:
        scores = {(edge.sender, edge.receiver): edge.score for edge in back(circuit, fmt).edges}
        assert scores == {(edge.sender, edge.receiver): edge.score for edge in circuit.edges}


@pytest.mark.parametrize("fmt", WHOLE)
def test_an_edge_into_a_group_is_one_edge_again(back: Back, grouped: Circuit, fmt: str) -> None:
    """a1.h2 and a1.h3 share a1.kv1<k>; both are in the circuit, and graphs draw the edge to both."""
    read = back(grouped, fmt)
    assert [edge.receiver for edge in read.edges].count("a1.kv1<k>") == 1 and read == grouped


@pytest.mark.parametrize("fmt", WHOLE)
def test_roles_at_edges_stay_as_they_are(back: Back, grouped: Circuit, fmt: str) -> None:
    edges = with_roles(grouped.layout(), grouped.nodes, grouped.edges)
    there = grouped.model_copy(update={"edges": edges})
    assert edges != grouped.edges and back(there, fmt) == there and back(grouped, fmt) == grouped
