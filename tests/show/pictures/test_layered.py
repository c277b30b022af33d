"""The strongest edges: on paths, as many as asked for, and what is refused."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import is_clean
from acdc_engine.graph.style import by_strength
from acdc_engine.show.pictures.layered import strongest
from tests.made_circuits import made_circuit


@cache
def made(seed: int) -> Circuit:
    return made_circuit(120, seed)


def names(circuit: Circuit) -> set[str]:
    return {f"{edge.sender}->{edge.receiver}" for edge in circuit.edges}


def test_by_hand(grouped: Circuit) -> None:
    """Effects 4, -3, 2, 1.5, 1, -0.5, 0.25, 0.125: no path before the fifth, which enters the head of the third."""
    paths = {"input->a0.h1<q>", "a0.h1->a1.kv1<v>", "a1.h2->logits", "a1.h3->logits"}
    assert names(strongest(grouped, 4)) == paths
    assert [node.name for node in strongest(grouped, 4).nodes] == ["input", "a0.h1", "a1.h2", "a1.h3", "logits"]
    assert names(strongest(grouped, 5)) == paths, "the sixth edge would bring the fourth along"
    assert names(strongest(grouped, 6)) == {*paths, "m0->logits", "input->m0"}
    assert strongest(grouped, 8) is grouped
    with pytest.raises(CircuitFileError, match="3 edges are too few: the strongest path from input to logits has 4"):
        strongest(grouped, 3)


@given(n=st.integers(30, 119), seed=st.integers(0, 3))
def test_clean_valid_and_strongest(n: int, seed: int) -> None:
    circuit = made(seed)
    part = strongest(circuit, n)
    assert 0 < len(part.edges) <= n and is_clean(part.graph(), part.mask())
    assert Circuit.model_validate(part.model_dump()) == part
    order = [f"{edge.sender}->{edge.receiver}" for edge in by_strength(circuit)]
    last = max(order.index(name) for name in names(part))
    assert names(part) <= set(order[: last + 1])


def test_what_has_no_strongest_edges(grouped: Circuit) -> None:
    with pytest.raises(CircuitFileError, match="at least 1, not 0"):
        strongest(grouped, 0)
    edges = tuple(edge.model_copy(update={"score": None, "effect": None}) for edge in grouped.edges)
    with pytest.raises(CircuitFileError, match="no edge of this circuit has either"):
        strongest(grouped.model_copy(update={"edges": edges}), 4)
