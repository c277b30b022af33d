"""Clean circuits: against networkx on the graph spelled out node by node, and by hand for grouped heads."""

from collections.abc import Callable

import networkx as nx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.graph.connectivity import CleanBase, clean, is_clean, leading, reachable
from acdc_engine.graph.spans import Spans


def mask_of(graph: Graph, *names: str) -> torch.Tensor:
    mask = torch.zeros_like(graph.exists)
    for name in names:
        mask[graph.parse_edge(name)] = True
    return mask


def names_of(graph: Graph, mask: torch.Tensor) -> set[str]:
    return {graph.edge_name(s, r) for s, r in mask.nonzero().tolist()}


def draw_mask(graph: Graph, data: st.DataObject, *batch: int) -> torch.Tensor:
    seed, density = data.draw(st.integers(0, 2**32 - 1)), data.draw(st.floats(0.01, 1))
    noise = torch.rand(*batch, *graph.exists.shape, generator=torch.Generator().manual_seed(seed))
    return (noise < density) & graph.exists


@st.composite
def spans(draw: st.DrawFn) -> Spans:
    """Two to four spans; each looks back at itself, the last is read, who else looks back at whom is chance."""
    n = draw(st.integers(2, 4))
    leads = [[one == other or draw(st.booleans()) for other in range(n)] for one in range(n)]
    return Spans(tuple(f"s{i}" for i in range(n)), tuple(map(tuple, leads)), draw(st.integers(0, n - 1)))


def slow_twin(
    graph: Graph, mask: torch.Tensor, fed: Callable[[str, GraphShape], set[str]]
) -> tuple[set[str], set[str]]:
    """Reached senders and leading receivers, from names and networkx's reachability."""
    spelled: nx.DiGraph[tuple[str, str]] = nx.DiGraph()
    spelled.add_nodes_from([("write", "input"), ("read", "logits")])
    for name in names_of(graph, mask):
        sender, receiver = name.split("->")
        spelled.add_edge(("write", sender), ("read", receiver))
    for receiver in graph.receivers:
        for sender in fed(receiver, graph.shape):
            spelled.add_edge(("read", receiver), ("write", sender))
    down = nx.descendants(spelled, ("write", "input")) | {("write", "input")}
    up = nx.ancestors(spelled, ("read", "logits")) | {("read", "logits")}
    return {name for kind, name in down if kind == "write"}, {name for kind, name in up if kind == "read"}


@given(data=st.data())
def test_equals_the_slow_twin(
    any_shape: st.SearchStrategy[GraphShape], fed_by_name: Callable[[str, GraphShape], set[str]], data: st.DataObject
) -> None:
    graph = Graph(data.draw(any_shape))
    mask = draw_mask(graph, data)
    reached, leads = slow_twin(graph, mask, fed_by_name)
    assert {graph.senders[i] for i in reachable(graph, mask).nonzero().flatten().tolist()} == reached
    assert {graph.receivers[i] for i in leading(graph, mask).nonzero().flatten().tolist()} == leads
    kept = {name for name in names_of(graph, mask) if name.split("->")[0] in reached and name.split("->")[1] in leads}
    assert names_of(graph, clean(graph, mask)) == kept


@given(data=st.data())
def test_idempotent_and_never_adds(any_shape: st.SearchStrategy[GraphShape], data: st.DataObject) -> None:
    graph = Graph(data.draw(any_shape))
    mask = draw_mask(graph, data)
    once = clean(graph, mask)
    assert not (once & ~mask).any()
    assert torch.equal(clean(graph, once), once) and is_clean(graph, once)
    assert is_clean(graph, mask) == torch.equal(once, mask)


@given(data=st.data())
def test_batch_equals_one_by_one(any_shape: st.SearchStrategy[GraphShape], data: st.DataObject) -> None:
    graph = Graph(data.draw(any_shape))
    masks = draw_mask(graph, data, 2, 3)
    before = masks.clone()
    together = clean(graph, masks)
    assert torch.equal(masks, before)
    for i in range(2):
        for j in range(3):
            assert torch.equal(together[i, j], clean(graph, masks[i, j]))


def test_edges_that_do_not_exist_are_dropped() -> None:
    graph = Graph(GraphShape(2, 2, 1))
    everything = torch.ones_like(graph.exists)
    assert torch.equal(clean(graph, everything), graph.exists)
    assert is_clean(graph, graph.exists) and not is_clean(graph, everything)


@pytest.mark.parametrize(
    ("shape", "edges", "kept"),
    [
        (GraphShape(1, 2, 2), "input->a0.h1<k> a0.h1->logits", "input->a0.h1<k> a0.h1->logits"),
        (
            GraphShape(1, 4, 2),
            "input->a0.kv1<k> a0.h1->logits a0.h2->logits a0.h3->logits",
            "input->a0.kv1<k> a0.h2->logits a0.h3->logits",
        ),
        (  # Head 0 leads nowhere, so its own q goes; its group leads on through head 1.
            GraphShape(1, 4, 2),
            "input->a0.kv0<v> input->a0.kv1<v> input->a0.h0<q> a0.h1->logits",
            "input->a0.kv0<v> a0.h1->logits",
        ),
        *(
            (
                GraphShape(2, 1, 1, parallel),
                "input->m0 m0->a1.h0<q> a0.h0->m1 m1->logits input->logits",
                "input->logits",
            )
            for parallel in (False, True)
        ),
        (GraphShape(2, 1, 1), "input->m0 m0->m1 input->a1.h0<q>", ""),
    ],
    ids=["a key alone", "a shared key", "a shared value", "dead ends", "in parallel blocks", "logits cut off"],
)
def test_by_hand(shape: GraphShape, edges: str, kept: str) -> None:
    graph = Graph(shape)
    assert names_of(graph, clean(graph, mask_of(graph, *edges.split()))) == set(kept.split())


@given(data=st.data())
def test_a_candidate_lacks_what_cleaning_takes_away(
    any_shape: st.SearchStrategy[GraphShape], data: st.DataObject
) -> None:
    graph = Graph(data.draw(any_shape)).at(data.draw(st.none() | spans()))
    mask = clean(graph, draw_mask(graph, data))
    edges = mask.flatten().nonzero().flatten().tolist()
    some = data.draw(st.lists(st.sampled_from(edges), max_size=5)) if edges else []
    without = mask.clone()
    without.view(-1)[some] = False
    lacks = (mask & ~clean(graph, without)).flatten().nonzero().flatten()
    candidate = CleanBase(graph, mask).without(some)
    assert candidate.remove.tolist() == lacks.tolist() and not len(candidate.add)
