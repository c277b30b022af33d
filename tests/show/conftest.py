"""Circuits to write: heads that share keys, heads that do not, parallel blocks, attention only."""

import io
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from rich.console import Console

from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Evaluation, Figures, HypothesisTest
from acdc_engine.graph.nodes import nodes_of_edges
from acdc_engine.graph.records import AttributionRecord, CircuitEdge, Cost, MetricRecord, SearchRecord, TaskRecord
from acdc_engine.show.sections import Section, text_of
from tests.show.index.runs import tiny_model

Make = Callable[..., Circuit]


def lines_of(sections: Iterable[Section], width: int = 80) -> list[str]:
    """What a terminal shows of sections, line by line, spaces as one."""
    console = Console(file=io.StringIO(), width=width)
    console.print(text_of(sections))
    assert isinstance(console.file, io.StringIO)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def figures(faithfulness: float) -> Figures:
    return Figures(
        n_prompts=64,
        metric_clean=3.5,
        metric_corrupt=-3.25,
        metric_circuit=2.75,
        faithfulness=faithfulness,
        kl_recovered=0.8125,
        agreement=0.984375,
        normalised_error=0.125,
        accuracy_clean=1.0,
    )


def evaluated(circuit: Circuit, **changes: Any) -> Circuit:
    """The circuit with other parts of its evaluation."""
    assert circuit.evaluation is not None
    return circuit.model_copy(update={"evaluation": circuit.evaluation.model_copy(update=changes)})


def judged_as(circuit: Circuit, *, seen: dict[str, Any] | None = None, **unseen: Any) -> Circuit:
    """The circuit with other figures on discovery (`seen`) and held-out prompts."""
    sides = {"discovery": seen or {}, "held_out": unseen}
    return evaluated(circuit, **{k: getattr(circuit.evaluation, k).model_copy(update=v) for k, v in sides.items()})


def hypothesis_test(name: Any, p_adjusted: float, details: str, *, rejected: bool = False) -> HypothesisTest:
    return HypothesisTest(
        name=name, null="they are alike", statistic=0.5, p_value=p_adjusted / 2, p_adjusted=p_adjusted,
        rejected=rejected, alpha=0.05, details=details,
    )  # fmt: skip


@pytest.fixture
def make() -> Make:
    """A circuit of a shape from edge names with their scores."""

    def circuit(shape: GraphShape, scores: dict[str, float | None], *, measured: bool = False) -> Circuit:
        edges = tuple(
            CircuitEdge(
                sender=name.split("->")[0],
                receiver=name.split("->")[1],
                score=score,
                effect=2 * score if measured and score is not None else None,
            )
            for name, score in scores.items()
        )
        nodes = nodes_of_edges(Graph(shape), edges, {"a1.h2": 'the "mover"'})
        model = tiny_model(shape, "tiny [v1]").model_copy(update={"architecture": "LlamaForCausalLM"})
        return Circuit(model=model, nodes=nodes, edges=edges)

    return circuit


@pytest.fixture
def grouped(make: Make) -> Circuit:
    scores = {
        "input->a0.h1<q>": 0.5,
        "input->m0": -0.25,
        "a0.h1->a1.kv1<k>": 0.125,
        "a0.h1->a1.kv1<v>": 1.0,
        "m0->a1.h2<q>": 0.0625,
        "a1.h2->logits": 2.0,
        "a1.h3->logits": -1.5,
        "m0->logits": 0.75,
    }
    return make(GraphShape(2, 4, 2), scores, measured=True)


@pytest.fixture
def found(grouped: Circuit) -> Circuit:
    """As `acdc discover` writes it, with everything filled."""
    return grouped.model_copy(
        update={
            "task": TaskRecord(name="ioi", n_discovery=64, n_held_out=32, seed=7),
            "metric": MetricRecord(name="logit_diff", sign=1),
            "ablation": "patch",
            "attribution": AttributionRecord(method="eap-ig", settings={"steps": 5}),
            "search": SearchRecord(strategy="iterative", target_faithfulness=0.9),
            "evaluation": Evaluation(discovery=figures(0.9375), held_out=figures(0.90625)),
            "cost": Cost(seconds=212.4, peak_memory_bytes=3 << 29, forward_passes=700, exact_evaluations=1312),
        }
    )
