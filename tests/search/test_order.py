"""Orders of edges and the circuits their prefixes make."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acdc_engine.errors import MethodError
from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.graph.connectivity import is_clean, leading
from acdc_engine.search.order import best_first, check_rank, first_edges, greedy_from_logits, of_size

GRAPH = Graph(GraphShape(2, 4, 2))
SMALL = Graph(GraphShape(1, 1, 1))


def scores(seed: int) -> torch.Tensor:
    return both(torch.randn(GRAPH.exists.shape, generator=torch.Generator().manual_seed(seed)) * GRAPH.exists)


def both(mean: torch.Tensor) -> torch.Tensor:
    """Mean and root mean square over prompts, of one prompt."""
    return torch.stack([mean, mean.abs()])


def small(values: dict[str, float], other: float = 0.0) -> torch.Tensor:
    """Scores in the small graph."""
    table = torch.full(SMALL.exists.shape, other)
    for edge, score in values.items():
        table[SMALL.parse_edge(edge)] = score
    return both(table)


def names(order: torch.Tensor) -> list[str]:
    return [SMALL.edge_name(*divmod(edge, SMALL.n_receivers)) for edge in order.tolist()]


def test_best_first_by_hand() -> None:
    given = small({"input->logits": 0.1, "input->m0": -3.0, "m0->logits": 2.0, "input->a0.h0<v>": 1.0})
    absolute, signed = (names(best_first(SMALL, given, rank)) for rank in ("absolute", "signed"))
    assert absolute[:3] == ["input->m0", "m0->logits", "input->a0.h0<v>"]
    assert signed[:3] == ["m0->logits", "input->a0.h0<v>", "input->logits"] and signed[-1] == "input->m0"


def test_greedy_grows_from_the_logits_by_hand() -> None:
    # input->a0.h0<v> is strongest, but a0.h0 is reached only after a0.h0->m0, which needs m0.
    values = {"input->a0.h0<v>": 9.0, "a0.h0->m0": 3.0, "m0->logits": 2.0, "input->logits": 1.0, "a0.h0->logits": 0.5}
    order = names(greedy_from_logits(SMALL, small(values), "absolute"))
    assert order[:4] == ["m0->logits", "a0.h0->m0", "input->a0.h0<v>", "input->logits"]


@given(st.integers(0, 10_000))
def test_orders_hold_every_edge_once(seed: int) -> None:
    for order in (best_first(GRAPH, scores(seed), "signed"), greedy_from_logits(GRAPH, scores(seed), "absolute")):
        assert len(order) == GRAPH.n_edges == len(set(order.tolist()))


@given(st.integers(0, 10_000), st.integers(1, 200))
def test_prefixes_are_clean_and_grow(seed: int, count: int) -> None:
    order = best_first(GRAPH, scores(seed), "absolute")
    smaller, larger = first_edges(GRAPH, order, count), first_edges(GRAPH, order, count + 7)
    assert is_clean(GRAPH, smaller)
    assert not (smaller & ~larger).any(), "pruning is monotone"


@given(st.integers(0, 10_000), st.integers(1, 200))
def test_greedy_prefixes_always_reach_the_logits(seed: int, count: int) -> None:
    mask = torch.zeros_like(GRAPH.exists)
    order = greedy_from_logits(GRAPH, scores(seed), "absolute")[:count]
    mask.view(-1)[order] = True
    assert not mask[:, ~leading(GRAPH, mask)].any()


@given(st.integers(0, 10_000), st.integers(1, GRAPH.n_edges))
@settings(max_examples=15)
def test_a_size_is_the_size_of_the_circuit_not_of_the_request(seed: int, size: int) -> None:
    order = best_first(GRAPH, scores(seed), "absolute")
    every = {int(first_edges(GRAPH, order, count).sum()) for count in range(1, len(order) + 1)} - {0}
    fitting = [found for found in every if found <= size]
    if fitting:
        assert int(of_size(GRAPH, order, size).sum()) == max(fitting)
    else:
        with pytest.raises(MethodError, match=f"the smallest has {min(every)}"):
            of_size(GRAPH, order, size)


def test_errors() -> None:
    with pytest.raises(MethodError, match=r"Unknown rank 'absolut'\. Did you mean 'absolute'\?"):
        check_rank("absolut")
    order = best_first(GRAPH, scores(0), "absolute")
    with pytest.raises(MethodError, match="at least one edge, not 0"):
        of_size(GRAPH, order, 0)
    late = small({"m0->logits": 0.3, "a0.h0->logits": 0.2, "input->logits": 0.1}, other=1.0)
    with pytest.raises(MethodError, match=r"the smallest has 6\. Ask for a size of at least 6"):
        of_size(SMALL, best_first(SMALL, late, "absolute"), 1)
