"""Shapes of micro models, circuits of them, and what their names say, read without the code under test."""

import re
from collections.abc import Callable
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from hypothesis import strategies as st

from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Example, HeadPattern
from acdc_engine.graph.nodes import nodes_of_edges, with_roles
from acdc_engine.graph.records import CircuitEdge, ModelRecord, Record

texts = st.text(max_size=12)
LIMITS = ("ge", "gt", "le", "lt", "min_length")
"""What a field's values can be limited by, as pydantic calls it."""
json_values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts


@st.composite
def shapes(draw: st.DrawFn) -> GraphShape:
    groups = draw(st.integers(1, 3))
    heads = groups * draw(st.integers(1, 3))
    return GraphShape(draw(st.integers(1, 4)), heads, groups, draw(st.booleans()), draw(st.booleans()))


@cache
def records_of(kind: type[Record]) -> st.SearchStrategy[Any]:
    """A record, every field filled by its type and limits."""
    if kind is Example:
        return examples()
    return st.builds(kind, **{name: field_of(kind, name) for name in kind.model_fields})


@st.composite
def examples(draw: st.DrawFn) -> Example:
    """Patterns have as many rows as there are tokens."""
    tokens = [draw(st.lists(texts, min_size=1, max_size=3)) for _ in range(2)]
    shares = st.floats(0, 1)
    rows = [st.tuples(*(st.tuples(*[shares] * (row + 1)) for row in range(len(side)))) for side in tokens]
    patterns = st.lists(st.builds(HeadPattern, head=texts, clean=rows[0], corrupt=rows[1]), max_size=2).map(tuple)
    fitting: dict[str, st.SearchStrategy[Any]] = {
        **{"clean": st.just(tuple(tokens[0])), "corrupt": st.just(tuple(tokens[1])), "patterns": patterns},
        "read_at": st.integers(0, len(tokens[0]) - 1),
    }
    others = {name: field_of(Example, name) for name in sorted(Example.model_fields.keys() - fitting)}
    return Example(**{name: draw(values) for name, values in (fitting | others).items()})


@cache
def field_of(kind: type[Record], name: str) -> st.SearchStrategy[Any]:
    """Values of one field of a record."""
    field = kind.model_fields[name]
    limits = {key: getattr(part, key) for part in field.metadata for key in LIMITS if hasattr(part, key)}
    return values_of(field.annotation, limits)


def values_of(kind: Any, limits: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of a type within limits."""
    parts = get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        return st.one_of(*(values_of(part, limits) for part in parts))
    if get_origin(kind) is Literal:
        return st.sampled_from(parts)
    if get_origin(kind) is tuple:
        least = limits.get("min_length", 0)
        return st.lists(values_of(parts[0], {}), min_size=least, max_size=least + 2).map(tuple)
    if get_origin(kind) is dict:
        values = values_of(parts[1], {}) if parts[1] in (str, int) else json_values
        return st.dictionaries(texts, values, max_size=3)
    if kind is float:
        low, high = limits.get("ge", limits.get("gt")), limits.get("le", limits.get("lt"))
        return st.floats(
            low, high, allow_nan=False, allow_infinity=False, exclude_min="gt" in limits, exclude_max="lt" in limits
        )
    if kind is int:
        return st.integers(limits.get("ge"), limits.get("le"))
    plain = {str: texts, bool: st.booleans(), type(None): st.none()}
    return plain[kind] if kind in plain else records_of(kind)


IDENTITY = {"sender", "receiver", "sender_role", "receiver_role"}
"""Fields of an edge that depend on the graph and on the nodes."""
measured = st.fixed_dictionaries(
    {name: field_of(CircuitEdge, name) for name in CircuitEdge.model_fields.keys() - IDENTITY}
)


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
    drawn = {"format", "version", "model", "nodes", "edges", "checksum"}
    parts = {name: draw(field_of(Circuit, name)) for name in sorted(Circuit.model_fields.keys() - drawn)}
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
