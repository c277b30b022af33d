"""Names and index arithmetic against counts from the field and against the names themselves."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from acdc_engine.errors import GraphError
from acdc_engine.graph.blocks import Graph, GraphShape

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize(
    ("shape", "counts"),
    [
        (GraphShape(12, 12, 12), (157, 445, 32_491)),  # GPT-2 small, as EAP-IG and ACDC count it
        (GraphShape(30, 9, 3), (301, 481, 70_651)),  # SmolLM2-135M as it is
        (GraphShape(30, 9, 9), (301, 841, 123_211)),  # SmolLM2-135M as MIB counts it
    ],
)
def test_counts(shape: GraphShape, counts: tuple[int, int, int]) -> None:
    graph = Graph(shape)
    assert (graph.n_senders, graph.n_receivers, graph.n_edges) == counts


def test_order_is_that_of_the_golden_files_and_grouped_heads_share_k_and_v() -> None:
    graph = Graph(GraphShape(1, 2, 2))
    assert graph.senders == ("input", "a0.h0", "a0.h1", "m0")
    attention = ("a0.h0<q>", "a0.h1<q>", "a0.h0<k>", "a0.h1<k>", "a0.h0<v>", "a0.h1<v>")
    assert graph.receivers == (*attention, "m0", "logits")
    assert Graph(GraphShape(1, 4, 2)).receivers[4:8] == ("a0.kv0<k>", "a0.kv1<k>", "a0.kv0<v>", "a0.kv1<v>")


@given(data=st.data())
def test_blocks_hold_what_they_say(any_shape: st.SearchStrategy[GraphShape], data: st.DataObject) -> None:
    shape = data.draw(any_shape)
    graph = Graph(shape)
    layer = data.draw(st.integers(0, shape.n_layers - 1))
    assert graph.senders[graph.heads(layer)] == tuple(f"a{layer}.h{h}" for h in range(shape.n_heads))
    for letter in "qkv":
        where = graph.part(layer, letter)
        names = graph.receivers[where]
        assert len(names) == (shape.n_heads if letter == "q" else shape.n_kv_heads)
        assert all(name.startswith(f"a{layer}.") and name.endswith(f"<{letter}>") for name in names)
        assert {graph.receiver_kind(r) for r in range(where.start, where.stop)} == {letter}
    assert graph.block("attention", layer).reads == slice(graph.part(layer, "q").start, graph.part(layer, "v").stop)
    assert graph.receivers[graph.logits] == "logits" and graph.receiver_kind(graph.logits) == "logits"
    if shape.mlps:
        mlp = graph.block("mlp", layer)
        assert graph.senders[mlp.writes] == graph.receivers[mlp.reads] == (f"m{layer}",)
        assert graph.receiver_kind(mlp.reads.start) == "mlp"


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
def test_edges_run_from_earlier_to_later(any_shape: st.SearchStrategy[GraphShape], data: st.DataObject) -> None:
    graph = Graph(data.draw(any_shape))
    parallel = graph.shape.parallel
    for r, receiver in enumerate(graph.receivers):
        into = order(receiver.split("<")[0], parallel)
        assert graph.sources(r) == [s for s, name in enumerate(graph.senders) if order(name, parallel) < into]
    assert int(graph.exists.sum()) == graph.n_edges


@given(data=st.data())
def test_receivers_feed_the_nodes_of_their_name(
    any_shape: st.SearchStrategy[GraphShape], fed_by_name: Callable[[str, GraphShape], set[str]], data: st.DataObject
) -> None:
    graph = Graph(data.draw(any_shape))
    for receiver, name in enumerate(graph.receivers):
        assert {graph.senders[sender] for sender in graph.fed(receiver)} == fed_by_name(name, graph.shape)


@given(data=st.data())
def test_names_round_trip(any_shape: st.SearchStrategy[GraphShape], data: st.DataObject) -> None:
    graph = Graph(data.draw(any_shape))
    receiver = data.draw(st.integers(0, graph.n_receivers - 1))
    sender = data.draw(st.sampled_from(graph.sources(receiver)))
    assert graph.parse_edge(graph.edge_name(sender, receiver)) == (sender, receiver)
    assert graph.sender_index(graph.senders[sender]) == sender
    assert graph.receiver_index(graph.receivers[receiver]) == receiver


@given(data=st.data())
def test_an_edge_that_does_not_exist_has_no_name(any_shape: st.SearchStrategy[GraphShape], data: st.DataObject) -> None:
    graph = Graph(data.draw(any_shape))
    receiver = data.draw(st.integers(0, graph.n_receivers - 1))
    absent = set(range(graph.n_senders + 1)) - set(graph.sources(receiver))
    sender = data.draw(st.sampled_from(sorted(absent)))
    with pytest.raises(GraphError):
        graph.edge_name(sender, receiver)


@given(text=st.text(max_size=20) | st.from_regex(r"[am]\d+(\.(h|kv)\d+)?(<\w>)?->[am]\d+(\.(h|kv)\d+)?(<\w>)?"))
def test_any_text_is_an_edge_or_an_error(text: str) -> None:
    graph = Graph(GraphShape(3, 4, 2))
    try:
        sender, receiver = graph.parse_edge(text)
    except GraphError:
        return
    assert graph.edge_name(sender, receiver) == re.sub(r"\s", "", text)


GROUPED, SEPARATE = GraphShape(8, 4, 2), GraphShape(8, 4, 4)


@pytest.mark.parametrize(
    ("shape", "text", "message"),
    [
        (SEPARATE, "a7.h3->a5.h2<q>", "No edge a7.h3->a5.h2<q>: a7.h3 comes after a5.h2, an edge runs from earlier"),
        (SEPARATE, "a5.h3->a5.h2<q>", "a5.h3 and a5.h2 are in the same layer, heads of a layer do not read each"),
        (SEPARATE, "a5.h2->a5.h2<v>", "a5.h2 does not read what it writes itself"),
        (GROUPED, "a5.h2->a5.kv1<v>", "a5.kv1 does not read what it writes itself"),
        (GraphShape(8, 4, 4, parallel=True), "a5.h1->m5", "a5.h1 and m5 run in parallel, neither reads the other"),
        (SEPARATE, "logits->m3", "No sender 'logits': the logits only receive."),
        (SEPARATE, "m9->logits", "No sender 'm9': the model has layers 0 to 7."),
        (SEPARATE, "a1.h4->logits", "No sender 'a1.h4': a layer has heads 0 to 3."),
        (GROUPED, "a1.kv1->m5", "No sender 'a1.kv1': a key/value group only receives; its heads are the senders."),
        (GROUPED, "input->a3.h2<k>", "No receiver 'a3.h2<k>': head 2 shares its k, write a3.kv1<k>."),
        (GROUPED, "input->a3.kv1", "say which input, a3.kv1<k> or a3.kv1<v>."),
        (SEPARATE, "input->a3.kv1<k>", "every head has its own k and v here, as in a3.h1<k>"),
        (SEPARATE, "input->a3", "No receiver 'a3': a head is written a3.h0."),
        (SEPARATE, "embed->logits", "No sender 'embed': senders are input, a0.h0 to a7.h3, m0 to m7."),
        (GROUPED, "input->out", "receivers are a0.h0<q> to a7.h3<q>, a0.kv0<k>, a0.kv0<v> and so on, m0 to m7 and"),
        (SEPARATE, "input->out", "receivers are a0.h0<q> to a7.h3<q>, likewise <k> and <v>, m0 to m7 and logits."),
        (GraphShape(8, 4, 4, mlps=False), "m1->logits", "No sender 'm1': the model is attention-only."),
    ],
)
def test_error_names_what_is_wrong(shape: GraphShape, text: str, message: str) -> None:
    with pytest.raises(GraphError, match=re.escape(message)):
        Graph(shape).parse_edge(text)


def test_indices_out_of_range_are_refused() -> None:
    graph = Graph(GraphShape(2, 2, 2, mlps=False))
    with pytest.raises(GraphError, match="No attention in layer -1: the model has layers 0 to 1"):
        graph.heads(-1)
    with pytest.raises(GraphError, match="No mlp in layer 1: the model has none"):
        graph.block("mlp", 1)
    with pytest.raises(GraphError, match=r"No edge \(-1, 0\): senders are 0 to 4, receivers 0 to 12"):
        graph.edge_name(-1, 0)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [((0, 1, 1), "n_layers is 0"), ((1, 4, 3), "4 heads do not divide into 3 key/value groups of equal size")],
)
def test_impossible_shapes_are_refused(sizes: tuple[int, int, int], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        GraphShape(*sizes)
