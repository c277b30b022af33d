"""What the host does per tested edge at the shape of a large model's graph, where computing costs next to nothing.

    python -m benchmarks.host_time [edges of the circuit]

1,057 senders and 1,569 receivers (805,681 edges) as in Llama 3.1 8B, residual streams of 32 numbers, one short prompt:
what is measured is cleaning, planning, hashing and the calls of small operations, on one thread.
"""

import sys
import time

import torch
import transformers

from acdc_engine.graph.connectivity import clean
from acdc_engine.model.bridge import view_of
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.judge import Judge
from acdc_engine.patch.memory import RememberingEvaluator
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.search import Found, singles
from acdc_engine.search.order import best_first, of_size


def large_judge() -> Judge:
    """A judge on a random model with as many nodes as Llama 3.1 8B."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=2,
        max_position_embeddings=16,
    )
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    prompts = PromptSet.from_tokens([[1, 2, 3, 4]], [[1, 5, 3, 4]], answers=[[6]], wrong_answers=[[7]])
    evaluator = CircuitEvaluator(view_of(model, "large graph"), prompts)
    return Judge(RememberingEvaluator(evaluator), get_metric("logit_diff"))


def some_circuit(judge: Judge, size: int) -> Found:
    """A clean circuit of about that many edges drawn at random."""
    scores = torch.rand(2, *judge.graph.exists.shape, generator=torch.Generator().manual_seed(0))
    mask = of_size(judge.graph, best_first(judge.graph, scores, "absolute"), size)
    return Found(clean(judge.graph, mask), 1.0)


def main(size: int) -> None:
    """Prints milliseconds per tested edge."""
    torch.set_num_threads(1)
    judge = large_judge()
    found = some_circuit(judge, size)
    started = time.perf_counter()
    singles(judge, found, None)
    taken = time.perf_counter() - started
    print(f"{found.size:,} of {judge.graph.n_edges:,} edges tested: {1000 * taken / found.size:.2f} ms each")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000)
