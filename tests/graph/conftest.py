"""Shapes of micro models, circuits of them, and what their names say, read without the code under test."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_check import nodes_of_edges
from acdc_engine.graph.circuit_records import (
    AttributionRecord,
    CircuitEdge,
    Cost,
    Environment,
    Evaluation,
    Figures,
    MetricRecord,
    ModelRecord,
    Record,
    SearchRecord,
    TaskRecord,
)
from acdc_engine.graph.layout import GraphShape, Layout

finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(max_size=12)


@st.composite
def shapes(draw: st.DrawFn) -> GraphShape:
    groups = draw(st.integers(1, 3))
    heads = groups * draw(st.integers(1, 3))
    return GraphShape(draw(st.integers(1, 4)), heads, groups, draw(st.booleans()), draw(st.booleans()))


def records_of(kind: type[Record]) -> st.SearchStrategy[Any]:
    """Every field of a record filled by its type; only the limits are given here."""
    share = st.floats(0, 1)
    limits: dict[type[Record], dict[str, st.SearchStrategy[Any]]] = {
        Figures: {
            "n_prompts": st.integers(1, 9),
            "agreement": share,
            "accuracy_clean": share,
            "normalised_error": st.floats(0, 9),
        },
        Cost: {"seconds": st.floats(0, 9), "forward_passes": st.floats(0, 9)}
        | {name: st.integers(0, 2**40) for name in ("peak_memory_bytes", "exact_evaluations")},
        Environment: {"threads": st.integers(1, 9), "versions": st.dictionaries(texts, texts, max_size=2)},
        TaskRecord: {"n_discovery": st.integers(0, 9), "n_held_out": st.integers(0, 9)},
    }
    limited = limits.get(kind, {})
    plain: dict[Any, st.SearchStrategy[Any]] = {
        float: finite,
        int: st.integers(),
        str: texts,
        str | None: st.none() | texts,
    }
    settings = st.dictionaries(texts, st.none() | st.booleans() | st.integers() | finite | texts, max_size=3)
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for name, field in kind.model_fields.items():
        if name in limited:
            fields[name] = limited[name]
        elif name == "settings":
            fields[name] = settings
        elif name == "sign":
            fields[name] = st.sampled_from((1, -1))
        elif name == "target_faithfulness":
            fields[name] = st.none() | finite
        else:
            fields[name] = plain[field.annotation]
    return st.builds(kind, **fields)


@st.composite
def circuits(draw: st.DrawFn) -> Circuit:
    shape = draw(shapes())
    layout = Layout(shape)
    receivers = st.integers(0, layout.n_receivers - 1)
    pairs = receivers.flatmap(lambda r: st.tuples(st.integers(0, layout.senders_before[r] - 1), st.just(r)))
    chosen = draw(st.sets(pairs))
    edges = tuple(
        CircuitEdge(
            sender=layout.senders[s],
            receiver=layout.receivers[r],
            score=draw(st.none() | finite),
            effect=draw(st.none() | finite),
        )
        for s, r in sorted(chosen)
    )
    named = draw(st.sets(st.sampled_from(layout.senders)))
    nodes = nodes_of_edges(layout, edges, {name: draw(texts) for name in named})
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
    optional: dict[str, type[Record]] = {
        "task": TaskRecord,
        "metric": MetricRecord,
        "attribution": AttributionRecord,
        "search": SearchRecord,
        "cost": Cost,
        "environment": Environment,
    }
    parts: dict[str, Any] = {name: draw(st.none() | records_of(kind)) for name, kind in optional.items()}
    figures = records_of(Figures)
    parts["evaluation"] = draw(st.none() | st.builds(Evaluation, discovery=figures, held_out=figures))
    parts["ablation"] = draw(st.sampled_from((None, "patch", "mean", "zero")))
    parts["source"] = draw(st.none() | texts)
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
    layout = Layout(GraphShape(2, 4, 2))
    names = ["input->a0.h1<q>", "a0.h1->a1.kv1<v>", "a1.h2->logits", "input->m0", "m0->a1.h2<q>"]
    edges = [CircuitEdge(sender=s, receiver=r) for s, r in (name.split("->") for name in names)]
    model = ModelRecord(name="tiny", n_layers=2, n_heads=4, n_kv_heads=2, d_model=8, d_vocab=11)
    return Circuit(model=model, nodes=nodes_of_edges(layout, edges), edges=tuple(edges))
