"""Shapes of micro models, circuits of them, and what their names say, read without the code under test."""

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import strategies as st

from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.nodes import nodes_of_edges, with_roles
from acdc_engine.graph.records import CircuitEdge, ModelRecord
from tests.made_circuits import made_circuit

texts = st.text(max_size=12)
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
shares = st.none() | st.floats(0, 1)
measured: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"score": numbers, "effect": numbers, "without": numbers, "stability": shares, "necessity": shares}
)
OF_THE_GRAPH = {"format", "version", "model", "nodes", "edges", "checksum"}


@st.composite
def shapes(draw: st.DrawFn) -> GraphShape:
    groups = draw(st.integers(1, 3))
    heads = groups * draw(st.integers(1, 3))
    return GraphShape(draw(st.integers(1, 4)), heads, groups, draw(st.booleans()), draw(st.booleans()))


@cache
def everything(seed: int) -> Circuit:
    """A circuit with a value in every field, some of whose texts are hostile."""
    return made_circuit(12, seed, hostile=bool(seed % 2))


@st.composite
def circuits(draw: st.DrawFn) -> Circuit:
    shape = draw(shapes())
    layout = Graph(shape)
    receivers = st.integers(0, layout.n_receivers - 1)
    pairs = receivers.flatmap(lambda r: st.tuples(st.sampled_from(layout.sources(r)), st.just(r)))
    chosen = draw(st.sets(pairs))
    edges = tuple(
        CircuitEdge(sender=layout.senders[s], receiver=layout.receivers[r], **draw(measured)) for s, r in sorted(chosen)
    )
    named = draw(st.sets(st.sampled_from(layout.senders)))
    nodes = nodes_of_edges(layout, edges, {name: draw(texts) for name in named})
    if draw(st.booleans()):
        edges = with_roles(layout, nodes, edges)
    model = ModelRecord(
        name=draw(texts),
        revision=draw(st.none() | texts),
        n_layers=shape.n_layers,
        n_heads=shape.n_heads,
        n_kv_heads=shape.n_kv_heads,
        d_model=draw(st.integers(1, 99)),
        d_vocab=draw(st.integers(1, 99)),
        parallel=shape.parallel,
        mlps=shape.mlps,
    )
    others = draw(st.sets(st.sampled_from(sorted(Circuit.model_fields.keys() - OF_THE_GRAPH))))
    parts = {name: getattr(everything(draw(st.integers(0, 5))), name) for name in sorted(others)}
    return Circuit(model=model, nodes=nodes, edges=edges, **parts)


@pytest.fixture(scope="session")
def any_shape() -> st.SearchStrategy[GraphShape]:
    return shapes()


@pytest.fixture(scope="session")
def any_circuit() -> st.SearchStrategy[Circuit]:
    return circuits()


@pytest.fixture(scope="session")
def fed_by_name() -> Callable[[str, GraphShape], set[str]]:
    """Which senders a receiver feeds, from its name alone."""

    def fed(receiver: str, shape: GraphShape) -> set[str]:
        if receiver == "logits":
            return set()
        match = re.fullmatch(r"(a\d+)\.kv(\d+)<[kv]>", receiver)
        if match:
            size = shape.n_heads // shape.n_kv_heads
            return {f"{match[1]}.h{int(match[2]) * size + place}" for place in range(size)}
        return {receiver.split("<")[0]}

    return fed


@pytest.fixture
def small_circuit() -> Circuit:
    """Two layers, four heads in two groups: input, a0.h1, a1.kv1<v>, a1.h2, logits; an MLP beside."""
    layout = Graph(GraphShape(2, 4, 2))
    names = ["input->a0.h1<q>", "a0.h1->a1.kv1<v>", "a1.h2->logits", "input->m0", "m0->a1.h2<q>"]
    edges = [CircuitEdge(sender=s, receiver=r) for s, r in (name.split("->") for name in names)]
    model = ModelRecord(name="tiny", n_layers=2, n_heads=4, n_kv_heads=2, d_model=8, d_vocab=11)
    return Circuit(model=model, nodes=nodes_of_edges(layout, edges), edges=tuple(edges))
