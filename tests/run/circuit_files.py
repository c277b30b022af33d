"""Circuits of a tiny model as a run would write them, with numbers computed one by one, not by the code under test."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from acdc_engine.evidence.figures import figures_of
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.evidence_records import Certificate, Evaluation
from acdc_engine.graph.files import json_text
from acdc_engine.graph.nodes import nodes_of_edges
from acdc_engine.graph.records import (
    AttributionRecord,
    CircuitEdge,
    MetricRecord,
    ModelRecord,
    SearchRecord,
    TaskRecord,
)
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.judge import Judge, Target
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.provenance import environment, prompts_hash, records_of
from tests.tiny_models import random_prompts
from tests.tiny_task import tiny_view

NAME = "llama_grouped"
TARGET = 0.7
DISCOVERY, HELD_OUT = random_prompts(12, seed=1), random_prompts(11, seed=2)


def judge_of(prompts: PromptSet, metric: str = "logit_diff") -> Judge:
    return Judge(CircuitEvaluator(tiny_view(NAME), prompts), get_metric(metric))


def faithfulness(judge: Judge, mask: Tensor) -> float:
    return judge.faithfulness(mask[None])[0]


def smallest(judge: Judge, target: Target) -> Tensor:
    """Drops edges from the whole graph as long as the target holds: no single edge of what is left can go."""
    graph = judge.graph
    mask, at_once = graph.exists.clone(), 32
    while at_once:
        parts = mask.nonzero().split(at_once)
        without = mask.repeat(len(parts), 1, 1)
        for candidate, edges in zip(without, parts, strict=True):
            candidate[edges[:, 0], edges[:, 1]] = False
        without = clean(graph, without)
        met = [candidate for candidate, f in zip(without, judge.faithfulness(without), strict=True) if target.met(f)]
        if met:
            mask = min(met, key=lambda candidate: int(candidate.sum()))
        else:
            at_once //= 2
    return mask


@cache
def circuit(aim: Any = "faithfulness") -> Circuit:
    """A minimal circuit with its certificate; `aim` is "faithfulness" or "kl"."""
    view, target = tiny_view(NAME), Target(TARGET)
    judge = judge_of(DISCOVERY)
    objective = judge_of(DISCOVERY, "kl") if aim == "kl" else judge
    mask = smallest(objective, target)
    edges = []
    for sender, receiver in mask.nonzero().tolist():
        without = mask.clone()
        without[sender, receiver] = False
        without = clean(view.graph, without)
        means = [float(judge.values(m[None]).double().mean()) for m in (mask, without)]
        edges.append(
            CircuitEdge(
                sender=view.graph.senders[sender],
                receiver=view.graph.receivers[receiver],
                score=0.5,
                effect=means[0] - means[1],
                without=faithfulness(objective, without),
            )
        )
    shape = view.shape
    return Circuit(
        model=ModelRecord(
            name=NAME,
            weights_hash=view.weights_hash(),
            architecture=view.architecture,
            n_layers=shape.n_layers,
            n_heads=shape.n_heads,
            n_kv_heads=shape.n_kv_heads,
            d_model=view.d_model,
            d_vocab=view.d_vocab,
        ),
        task=TaskRecord(
            name="my own",
            prompts_hash=prompts_hash(DISCOVERY, HELD_OUT),
            n_discovery=len(DISCOVERY),
            n_held_out=len(HELD_OUT),
            seed=0,
        ),
        metric=MetricRecord(name="logit_diff", sign=1),
        ablation="patch",
        attribution=AttributionRecord(method="eap-ig", settings={"alphas": [0.25, 0.75]}),
        search=SearchRecord(strategy="iterative", objective=aim, target_faithfulness=TARGET),
        evaluation=Evaluation(discovery=figures_of(judge, mask), held_out=figures_of(judge_of(HELD_OUT), mask)),
        certificate=Certificate(
            objective=aim, low=TARGET, high=2 - TARGET, value=faithfulness(objective, mask), minimal=True
        ),
        environment=environment(view),
        nodes=nodes_of_edges(view.graph, edges),
        edges=tuple(edges),
        prompts=records_of(DISCOVERY, HELD_OUT),
    )


def saved(folder: Path, what: Circuit | None = None, **update: Any) -> Path:
    """Writes a circuit, changed as asked, with its checksum."""
    path = folder / "circuit.json"
    (what or circuit()).model_copy(update=update).save(path, overwrite=True)
    return path


def by_hand(folder: Path, what: Circuit | None = None, **update: Any) -> Path:
    """The same without a checksum and unchecked, as an editor would leave it."""
    content = (what or circuit()).model_copy(update=update).model_dump(mode="json")
    path = folder / "circuit.json"
    path.write_text(json_text(content))
    return path


def with_edge(place: int, what: Circuit | None = None, **update: Any) -> tuple[CircuitEdge, ...]:
    """The circuit's edges, one of them changed."""
    edges = list((what or circuit()).edges)
    edges[place] = edges[place].model_copy(update=update)
    return tuple(edges)


def mask_of(*names: str) -> Tensor:
    """A mask of named edges."""
    graph = tiny_view(NAME).graph
    mask = torch.zeros(graph.n_senders, graph.n_receivers, dtype=torch.bool)
    for name in names:
        mask[graph.parse_edge(name)] = True
    return mask
