"""transformer-lens's side of `benchmarks.peers`: `python -m benchmarks.peer_lens JOB ANSWER`, in a process of its own.

What `transformer_lens.tools.analysis.attribution_patching` computes (4.3): for one pair of prompts after the other, a
clean forward pass, and a corrupt one with its backward pass; for every position and every pair of writer and later
reader, `(clean - corrupt of the writer) . gradient at the reader's input in the corrupt run`, positive where the clean
value raises the metric. Summed over positions and averaged over pairs, that is this engine's score with gradients at
the corrupt end (`alphas=(0.0,)`). It has no other points (`ig_steps > 1` raises NotImplementedError), and refuses
grouped keys and values (so they are copied here, one per query head) and norms after attention (Gemma, OLMo 2).

Its metric function sees logits only and not which pair they belong to, so it is called once per pair, as it works
inside anyway. Summing its scores over positions is not timed.
"""

import sys
import time
from collections import defaultdict
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module
from transformer_lens.tools.analysis.attribution_patching import EdgeAttributionConfig, Node, attribution_patch
from transformers import AutoModelForCausalLM

from benchmarks.fresh_python import peak_resident_bytes
from benchmarks.peer_job import Answer, Job

READS = {"q_input": "q", "k_input": "k", "v_input": "v"}


def ungroup(hf_model: Any) -> None:
    """Copies shared key and value heads of a Llama-like model, in place; the function stays the same."""
    config = hf_model.config
    heads, groups = config.num_attention_heads, getattr(config, "num_key_value_heads", None)
    if groups in (None, heads):
        return
    for layer in hf_model.model.layers:
        for part in (layer.self_attn.k_proj, layer.self_attn.v_proj):
            for name in [name for name in ("weight", "bias") if getattr(part, name) is not None]:
                shared = getattr(part, name).detach().unflatten(0, (groups, -1))
                setattr(part, name, nn.Parameter(shared.repeat_interleave(heads // groups, 0).flatten(0, 1)))
            part.out_features = part.weight.shape[0]
        layer.self_attn.num_key_value_groups = 1
    config.num_key_value_heads = heads


def name_of(node: Node) -> str:
    """What this engine calls one of its nodes, whatever the position."""
    if node.kind in READS:
        return f"a{node.layer}.h{node.head}<{READS[node.kind]}>"
    if node.kind == "attn_head_out":
        return f"a{node.layer}.h{node.head}"
    return {"embed": "input", "logits": "logits"}.get(node.kind, f"m{node.layer}")


def answer(job: Job) -> Answer:
    """Does the job, or says why transformer-lens does not."""
    versions = {"transformer-lens": version("transformer-lens"), "torch": torch.__version__}
    if job.alphas != (0.0,):
        return Answer(versions=versions, refused="it takes gradients in the corrupt run only")
    torch.set_num_threads(job.threads)
    hf_model = AutoModelForCausalLM.from_pretrained(job.model, dtype=torch.float32, attn_implementation="eager").eval()
    ungroup(hf_model)
    bridge = build_bridge_from_module(hf_model, type(hf_model).__name__, hf_config=hf_model.config, tokenizer=None)
    bridge.eval()
    took, scores = list[tuple[float, float]](), dict[str, float]()
    for _ in range(job.warm_ups + job.repeats):
        try:
            seconds, scores = _score(bridge, job)
        except ValueError as error:
            return Answer(versions=versions, refused=str(error))
        took.append(seconds)
    peak = peak_resident_bytes()
    with torch.no_grad():
        metrics = [float(_metric(job, place)(bridge(torch.tensor([row])))) for place, row in enumerate(job.clean)]
    return Answer(
        versions=versions,
        seconds=tuple(wall for wall, _ in took[job.warm_ups :]),
        cpu_seconds=tuple(cpu for _, cpu in took[job.warm_ups :]),
        peak_bytes=peak,
        clean_metric=tuple(metrics),
        scores=scores,
    )


def _score(bridge: Any, job: Job) -> tuple[tuple[float, float], dict[str, float]]:
    """Seconds and processor time of transformer-lens's own work, and its scores summed over positions."""
    config, seconds, cpu = EdgeAttributionConfig(granularity="edge"), 0.0, 0.0
    totals = defaultdict[str, float](float)
    for place, (clean, corrupt) in enumerate(zip(job.clean, job.corrupt, strict=True)):
        pair, metric = (torch.tensor([clean]), torch.tensor([corrupt])), _metric(job, place)
        start, cpu_start = time.perf_counter(), time.process_time()
        found = attribution_patch(bridge, *pair, metric, config).edge_scores
        seconds += time.perf_counter() - start
        cpu += time.process_time() - cpu_start
        for (writer, reader), score in found.items():
            totals[f"{name_of(writer)}->{name_of(reader)}"] += score / len(job.clean)
    return (seconds, cpu), dict(totals)


def _metric(job: Job, place: int) -> Callable[[Tensor], Tensor]:
    """The logit difference of one pair, from its logits `[1, pos, vocabulary]`."""

    def metric(logits: Tensor) -> Tensor:
        read = logits[0, job.read_at[place]]
        return read[job.answers[place]].mean() - read[job.wrong_answers[place]].mean()

    return metric


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(answer(Job.read(sys.argv[1])).model_dump_json())
