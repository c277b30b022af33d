"""Names and index arithmetic against counts from the field and against the names themselves."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acdc_engine.errors import GraphError
from acdc_engine.graph.layout import GraphShape, Layout


@pytest.mark.parametrize(
    ("shape", "counts"),
    [
        (GraphShape(12, 12, 12), (157, 445, 32_491)),  # GPT-2 small, as EAP-IG and ACDC count it
        (GraphShape(30, 9, 3), (301, 481, 70_651)),  # SmolLM2-135M as it is
        (GraphShape(30, 9, 9), (301, 841, 123_211)),  # SmolLM2-135M as MIB counts it
    ],
)
def test_counts(shape: GraphShape, counts: tuple[int, int, int]) -> None:
    layout = Layout(shape)
    assert (layout.n_senders, layout.n_receivers, layout.n_edges) == counts


def test_order_is_that_of_the_golden_files() -> None:
    layout = Layout(GraphShape(1, 2, 2))
    assert layout.senders == ("input", "a0.h0", "a0.h1", "m0")
    attention = ("a0.h0<q>", "a0.h1<q>", "a0.h0<k>", "a0.h1<k>", "a0.h0<v>", "a0.h1<v>")
    assert layout.receivers == (*attention, "m0", "logits")


def test_grouped_heads_share_k_and_v() -> None:
    receivers = Layout(GraphShape(1, 4, 2)).receivers
    assert receivers[4:8] == ("a0.kv0<k>", "a0.kv1<k>", "a0.kv0<v>", "a0.kv1<v>")


@given(data=st.data())
def test_slices_hold_what_they_say(any_shape: st.SearchStrategy[GraphShape], data: st.DataObject) -> None:
    shape = data.draw(any_shape)
    layout = Layout(shape)
    layer = data.draw(st.integers(0, shape.n_layers - 1))
    assert layout.senders[layout.heads(layer)] == tuple(f"a{layer}.h{h}" for h in range(shape.n_heads))
    for kind, where in (("q", layout.q(layer)), ("k", layout.k(layer)), ("v", layout.v(layer))):
        names = layout.receivers[where]
        assert len(names) == (shape.n_heads if kind == "q" else shape.n_kv_heads)
        assert all(name.startswith(f"a{layer}.") and name.endswith(f"<{kind}>") for name in names)
        assert {layout.receiver_kind(r) for r in range(where.start, where.stop)} == {kind}
    assert layout.attention(layer) == slice(layout.q(layer).start, layout.v(layer).stop)
    assert layout.receivers[layout.logits] == "logits" and layout.receiver_kind(layout.logits) == "logits"
    if shape.mlps:
        assert layout.senders[layout.mlp_sender(layer)] == f"m{layer}"
        assert layout.receivers[layout.mlp_receiver(layer)] == f"m{layer}"
        assert layout.receiver_kind(layout.mlp_receiver(layer)) == "mlp"


@given(data=st.data())
def test_receivers_feed_the_nodes_of_their_name(
    any_shape: st.SearchStrategy[GraphShape],
    fed_by_name: Callable[[str, GraphShape], set[str]],
    data: st.DataObject,
) -> None:
    layout = Layout(data.draw(any_shape))
    for receiver, name in enumerate(layout.receivers):
        assert set(layout.senders[layout.receiver_sender(receiver)]) == fed_by_name(name, layout.shape)


@given(data=st.data())
def test_names_round_trip(any_shape: st.SearchStrategy[GraphShape], data: st.DataObject) -> None:
    layout = Layout(data.draw(any_shape))
    receiver = data.draw(st.integers(0, layout.n_receivers - 1))
    sender = data.draw(st.integers(0, layout.senders_before[receiver] - 1))
    assert layout.parse_edge(layout.edge_name(sender, receiver)) == (sender, receiver)
    assert layout.sender_index(layout.senders[sender]) == sender
    assert layout.receiver_index(layout.receivers[receiver]) == receiver


@given(data=st.data())
def test_an_edge_that_does_not_exist_has_no_name(any_shape: st.SearchStrategy[GraphShape], data: st.DataObject) -> None:
    layout = Layout(data.draw(any_shape))
    receiver = data.draw(st.integers(0, layout.n_receivers - 1))
    sender = data.draw(st.integers(layout.senders_before[receiver], layout.n_senders))
    with pytest.raises(GraphError):
        layout.edge_name(sender, receiver)


@given(text=st.text(max_size=20) | st.from_regex(r"[am]\d+(\.(h|kv)\d+)?(<\w>)?->[am]\d+(\.(h|kv)\d+)?(<\w>)?"))
def test_any_text_is_an_edge_or_an_error(text: str) -> None:
    layout = Layout(GraphShape(3, 4, 2))
    try:
        sender, receiver = layout.parse_edge(text)
    except GraphError:
        return
    assert layout.edge_name(sender, receiver) == re.sub(r"\s", "", text)


GROUPED, SEPARATE = GraphShape(8, 4, 2), GraphShape(8, 4, 4)


@pytest.mark.parametrize(
    ("shape", "text", "message"),
    [
        (
            SEPARATE,
            "a7.h3->a5.h2<q>",
            "No edge a7.h3->a5.h2<q>: a7.h3 comes after a5.h2, an edge runs from earlier",
        ),
        (
            SEPARATE,
            "a5.h3->a5.h2<q>",
            "a5.h3 and a5.h2 are in the same layer, heads of a layer do not read each",
        ),
        (SEPARATE, "a5.h2->a5.h2<v>", "a5.h2 does not read what it writes itself"),
        (GROUPED, "a5.h2->a5.kv1<v>", "a5.kv1 does not read what it writes itself"),
        (SEPARATE, "m5->m5", "m5 does not read what it writes itself"),
        (
            GraphShape(8, 4, 4, parallel=True),
            "a5.h1->m5",
            "a5.h1 and m5 run in parallel, neither reads the other",
        ),
        (SEPARATE, "logits->m3", "No sender 'logits': the logits only receive."),
        (SEPARATE, "a1.h1->input", "No receiver 'input': the input only sends."),
        (SEPARATE, "m9->logits", "No sender 'm9': the model has layers 0 to 7."),
        (SEPARATE, "a1.h4->logits", "No sender 'a1.h4': a layer has heads 0 to 3."),
        (SEPARATE, "a1.h2<q>->logits", "as a sender the head is written without them"),
        (
            GROUPED,
            "a1.kv1->m5",
            "No sender 'a1.kv1': a key/value group only receives; its heads are the senders.",
        ),
        (GROUPED, "input->a3.kv2<k>", "No receiver 'a3.kv2<k>': a layer has key/value groups 0 to 1."),
        (GROUPED, "input->a3.h2<k>", "No receiver 'a3.h2<k>': head 2 shares its k, write a3.kv1<k>."),
        (GROUPED, "input->a3.kv1<q>", "a key/value group has k and v only; q belongs to a head"),
        (GROUPED, "input->a3.kv1", "say which input, a3.kv1<k> or a3.kv1<v>."),
        (SEPARATE, "input->a3.kv1<k>", "every head has its own k and v here, as in a3.h1<k>"),
        (SEPARATE, "input->a3.h1", "say which input, a3.h1<q> or a3.h1<k> or a3.h1<v>."),
        (SEPARATE, "input->a3", "No receiver 'a3': a head is written a3.h0."),
        (SEPARATE, "m1.h2->logits", "No sender 'm1.h2': an MLP is written m1."),
        (SEPARATE, "embed->logits", "No sender 'embed': senders are input, a0.h0 to a7.h3, m0 to m7."),
        (
            GROUPED,
            "input->out",
            "receivers are a0.h0<q> to a7.h3<q>, a0.kv0<k>, a0.kv0<v> and so on, m0 to m7 and",
        ),
        (
            SEPARATE,
            "input->out",
            "receivers are a0.h0<q> to a7.h3<q>, likewise <k> and <v>, m0 to m7 and logits.",
        ),
        (GraphShape(8, 4, 4, mlps=False), "m1->logits", "No sender 'm1': the model is attention-only."),
        (SEPARATE, "input", "'input' is not an edge: write sender->receiver, as in a5.h5->a7.h3<q>."),
    ],
)
def test_error_names_what_is_wrong(shape: GraphShape, text: str, message: str) -> None:
    with pytest.raises(GraphError, match=re.escape(message)):
        Layout(shape).parse_edge(text)


def test_indices_out_of_range_are_refused() -> None:
    layout = Layout(GraphShape(2, 2, 2, mlps=False))
    with pytest.raises(GraphError, match="No layer -1: the model has layers 0 to 1"):
        layout.heads(-1)
    with pytest.raises(GraphError, match="No MLP in layer 1: the model is attention-only"):
        layout.mlp_sender(1)
    with pytest.raises(GraphError, match=r"No edge \(-1, 0\): senders are 0 to 4, receivers 0 to 12"):
        layout.edge_name(-1, 0)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 1, 1), "n_layers is 0"),
        ((1, 4, 3), "4 heads do not divide into 3 key/value groups of equal size"),
    ],
)
def test_impossible_shapes_are_refused(sizes: tuple[int, int, int], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        GraphShape(*sizes)
