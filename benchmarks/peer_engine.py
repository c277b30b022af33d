"""This engine's side of `benchmarks.peers`: `python -m benchmarks.peer_engine JOB ANSWER`, in a process of its own."""

import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from acdc_engine.model import TransformerView, load_model
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.score import get_method, score_edges
from benchmarks.fresh_python import peak_resident_bytes
from benchmarks.peer_job import Answer, Job


def load_ungrouped(folder: str) -> TransformerView:
    """The view with one key and value per query head, as the other tools need it; no tokenizer."""
    hf_model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return load_model(hf_model.eval(), ungroup_kv=True)


def answer(job: Job) -> Answer:
    """Does the job."""
    torch.set_num_threads(job.threads)
    view, prompts, metric = load_ungrouped(job.model), job.prompts(), get_metric("logit_diff")
    method = get_method("eap-ig", alphas=job.alphas)
    seconds, cpu = list[float](), list[float]()
    for _ in range(job.warm_ups + job.repeats):
        start, cpu_start = time.perf_counter(), time.process_time()
        scores = score_edges(view, prompts, metric, method, batch_size=job.batch_size).mean
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - cpu_start)
    peak, graph = peak_resident_bytes(), view.graph
    clean = CircuitEvaluator(view, prompts, batch_size=job.batch_size).clean_logits()
    return Answer(
        versions={"acdc-engine": version("acdc-engine"), "torch": torch.__version__},
        seconds=tuple(seconds[job.warm_ups :]),
        cpu_seconds=tuple(cpu[job.warm_ups :]),
        peak_bytes=peak,
        clean_metric=tuple(metric(clean, prompts).tolist()),
        scores={graph.edge_name(u, v): float(scores[u, v]) for u, v in graph.exists.nonzero().tolist()},
    )


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(answer(Job.read(sys.argv[1])).model_dump_json())
