"""Whether what a device computes is what the CPU computes: scores, exact runs, gradients, a whole search."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from acdc_engine import Experiment
from acdc_engine.graph.connectivity import CleanBase, clean
from acdc_engine.model import load_model
from acdc_engine.patch.evaluator import Variants
from acdc_engine.score import METHODS
from acdc_engine.search.order import best_first, of_size
from benchmarks.report import Table, yes_or_no
from benchmarks.shapes import random_model, random_prompts

TOLERANCE = 1e-3
SEARCH = "edges found by a search"


@dataclass(frozen=True)
class Agreement:
    """How far a device's numbers are from the CPU's, float32."""

    model: str  # which model
    what: str  # scores of a method, metrics of circuits, a gradient, or a search
    difference: float  # largest absolute difference over the largest absolute value on the CPU; edges: 1 - Jaccard

    @property
    def close(self) -> bool:
        """Whether the difference is within `TOLERANCE`."""
        return self.difference <= TOLERANCE


def compare_devices(name: str, config: Any, device: str, n: int = 8, pos: int = 12) -> list[Agreement]:
    """Does the same to one random model on the CPU and on the device; TF32 is switched off meanwhile.

    All methods score it; the circuit of the best tenth of the edges is run exactly, with gradients, and without single
    edges; and a circuit is searched for and made minimal.
    """
    on_cpu = random_model(config, "cpu", torch.float32)
    with torch.no_grad():
        for parameter in on_cpu.parameters():  # away from zeros and ones, which would hide mistakes
            parameter.add_(torch.randn_like(parameter) * 0.02)
    prompts = random_prompts(config.vocab_size, n, pos)
    labs = [Experiment(load_model(on_cpu), prompts, batch_size=4)]
    labs.append(Experiment(load_model(copy.deepcopy(on_cpu).to(device)), prompts, batch_size=4))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        pairs = {f"scores, {method}": [lab.score(method).mean for lab in labs] for method in METHODS.names}
        graph, scores = labs[0].view.graph, pairs["scores, eap-ig"][0]
        order = best_first(graph, torch.stack([scores, scores.abs()]), "absolute")
        mask = clean(graph, of_size(graph, order, graph.n_edges // 10))
        base, metric = CleanBase(graph, mask), labs[0].metric
        edges = mask.flatten().nonzero().flatten().tolist()
        some = Variants(mask, tuple(base.without([edge]) for edge in edges[:: len(edges) // 8 + 1]))
        pairs["metric of a circuit"] = [lab.evaluator.values(mask[None], metric) for lab in labs]
        pairs["the same without single edges"] = [lab.evaluator.values(some, metric) for lab in labs]
        pairs["gradient at a circuit"] = [lab.evaluator.edge_gradients(mask, metric) for lab in labs]
        searched = _searched(name, labs)
    finally:
        torch.set_float32_matmul_precision(before)
    found = [Agreement(name, what, _difference(*both)) for what, both in pairs.items()]
    return [*found, searched]


def _searched(name: str, labs: list[Experiment]) -> Agreement:
    ours, theirs = (lab.minimal(lab.search(lab.score("eap-ig"), target=0.9)).mask for lab in labs)
    return Agreement(name, SEARCH, 1.0 - float((ours & theirs).sum() / (ours | theirs).sum()))


def _difference(expected: Tensor, found: Tensor) -> float:
    return float((found.cpu() - expected).abs().max() / expected.abs().max())


def agreement_table(found: list[Agreement]) -> Table:
    """Differences between the device and the CPU."""
    rows = tuple((a.model, a.what, f"{a.difference:.1e}", yes_or_no(a.close)) for a in found)
    columns = ("model", "what", "difference", f"within {TOLERANCE:g}")
    note = (
        "Largest difference over the largest value on the CPU, of edges 1 - Jaccard; float32, TF32 off, random models."
    )
    return Table("The device and the CPU", columns, rows, note)
