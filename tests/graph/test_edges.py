"""Which edges exist: against the independent golden files, and against what the names say."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from acdc_engine.graph.edges import Graph, GraphShape

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize(("name", "parallel"), [("gpt2", False), ("llama", False), ("gpt_neox", True)])
def test_exists_as_in_golden(name: str, parallel: bool) -> None:
    golden = load_file(GOLDEN / f"tiny_{name}.golden.safetensors")["edge_exists"]
    assert torch.equal(Graph(GraphShape(3, 4, 4, parallel)).exists, golden.bool())


def order(name: str, parallel: bool) -> tuple[float, int]:
    """When a node is computed: its layer, and its turn within it."""
    if name in ("input", "logits"):
        return (-1.0, 0) if name == "input" else (float("inf"), 0)
    layer = float(name.split(".")[0][1:])
    return layer, int(name[0] == "m" and not parallel)


@given(data=st.data())
def test_exists_from_earlier_to_later(any_shape: st.SearchStrategy[GraphShape], data: st.DataObject) -> None:
    graph = Graph(data.draw(any_shape))
    parallel = graph.shape.parallel
    for s, sender in enumerate(graph.senders):
        for r, receiver in enumerate(graph.receivers):
            earlier = order(sender, parallel) < order(receiver.split("<")[0], parallel)
            assert bool(graph.exists[s, r]) == earlier, f"{sender}->{receiver}"
    assert int(graph.exists.sum()) == graph.n_edges


@given(data=st.data())
def test_prefixes_are_the_columns_of_exists(any_shape: st.SearchStrategy[GraphShape], data: st.DataObject) -> None:
    graph = Graph(data.draw(any_shape))
    per_column = graph.exists.sum(0)
    for layer in range(graph.shape.n_layers):
        assert set(per_column[graph.attention(layer)].tolist()) == {graph.senders_before_attention(layer)}
        if graph.shape.mlps:
            assert per_column[graph.mlp_receiver(layer)] == graph.senders_before_mlp(layer)
    assert per_column[graph.logits] == graph.n_senders
