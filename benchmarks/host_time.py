"""What the host decides per tested edge at the shape of a large model's graph, while an accelerator would wait for it.

    python -m benchmarks.host_time [edges of the circuit]

1,057 senders and 1,569 receivers (805,681 edges) as in Llama 3.1 8B, and a residual stream of 32 numbers. Timed is what
comes before a batch of 32 tested edges runs: cleaning, hashing, planning, laying out. One thread.
"""

import sys
import time

import numpy as np
import torch
import transformers

from acdc_engine.graph.connectivity import CleanBase
from acdc_engine.patch.circuit_evaluator import CircuitEvaluator
from acdc_engine.patch.evaluator import Variants
from acdc_engine.patch.memory import RememberingEvaluator
from acdc_engine.patch.patched_run import PatchedRun
from acdc_engine.patch.plan import make_plan
from acdc_engine.patch.sums import Masks
from acdc_engine.search.minimal import BATCH
from acdc_engine.search.order import best_first, of_size
from benchmarks.shapes import random_prompts, random_view

CONFIG = transformers.LlamaConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=32,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=2,
    max_position_embeddings=16,
)
"""As many nodes as Llama 3.1 8B."""


def main(size: int) -> None:
    """Prints milliseconds per tested edge."""
    torch.set_num_threads(1)
    view, _ = random_view(CONFIG, "large graph", "cpu", torch.float32)
    evaluator = CircuitEvaluator(view, random_prompts(CONFIG.vocab_size, 1, 4))
    graph, remembering = evaluator.graph, RememberingEvaluator(evaluator)
    scores = torch.rand(2, *graph.exists.shape, generator=torch.Generator().manual_seed(0))
    mask = of_size(graph, best_first(graph, scores, "absolute"), size)
    edges = np.flatnonzero(mask.numpy())
    edges = edges[(edges % graph.n_receivers).argsort(kind="stable")]
    (bank,), (ready,) = evaluator._banks_of(mask), evaluator._ready
    remembering._hashes(Variants.of(mask, mask[None]))
    base, spent = CleanBase(graph, mask), dict.fromkeys(("cleaning", "hashing", "planning", "laying out"), 0.0)
    for start in range(0, len(edges), BATCH):
        times = [time.perf_counter()]
        candidates = tuple(base.without([edge]) for edge in edges[start : start + BATCH].tolist())
        times.append(time.perf_counter())
        remembering._hashes(Variants(mask, candidates))
        times.append(time.perf_counter())
        masks = Masks.near(mask.numpy(), candidates)
        plan = make_plan(graph, view.twins, masks, known=bank)
        times.append(time.perf_counter())
        PatchedRun(evaluator.view, ready.baseline, plan, masks, bank)
        times.append(time.perf_counter())
        for what, taken in zip(spent, np.diff(times), strict=True):
            spent[what] += float(taken)
    parts = ", ".join(f"{what} {1000 * taken / len(edges):.2f}" for what, taken in spent.items())
    whole = 1000 * sum(spent.values()) / len(edges)
    print(f"{len(edges):,} of {graph.n_edges:,} edges tested, ms each: {whole:.2f} ({parts})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000)
