"""Circuits of graphs as large as those of large models: random models with their layers and heads, and little width.

Run it: `python -m benchmarks.large llama-8b`. Each stage's seconds and the process's peak memory, written as it goes.
"""

import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import transformers as hf
import typer
from safetensors.torch import load_file, save_file

from acdc_engine import Experiment
from acdc_engine.model import load_model
from benchmarks.fresh_python import peak_resident_bytes
from benchmarks.report import Out, Table, Threads, describe_machine, errors_in_words, give
from benchmarks.shapes import random_model, random_prompts

SHAPES = {"gpt2-xl": (48, 25, 25), "llama-8b": (32, 32, 8), "llama-70b": (80, 64, 8)}
"""Layers, heads, key/value heads. All are Llamas here: what is measured is the size of the graph."""
VOCAB, PROMPTS, TOKENS = 64, 32, 8


@dataclass(frozen=True)
class Stage:
    """One stage of a run."""

    name: str  # what was done
    seconds: float  # how long it took
    peak_bytes: int  # most memory that the process has held so far
    edges: int  # of the circuit after it; of the graph before there is one


def random_lab(shape: str) -> Experiment:
    """The experiment: weights large enough for circuits to matter."""
    layers, heads, groups = SHAPES[shape]
    config = hf.LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=heads,
        intermediate_size=32,
        head_dim=2,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        max_position_embeddings=32,
    )
    model = random_model(config, "cpu", torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(8.0)
    model.name_or_path = shape
    return Experiment(
        load_model(model), random_prompts(VOCAB, PROMPTS, TOKENS), random_prompts(VOCAB, 16, TOKENS, seed=1)
    )


def measure(shape: str, folder: Path) -> list[Stage]:
    """Does all that a default run does without validation prompts, and reads what it leaves."""
    stages, start = list[Stage](), time.perf_counter()

    def done(name: str, edges: int) -> None:
        nonlocal start
        stages.append(Stage(name, time.perf_counter() - start, peak_resident_bytes(), edges))
        typer.echo(f"{shape}: {name} {stages[-1].seconds:.1f} s, {stages[-1].peak_bytes / 1e9:.2f} GB, {edges:,} edges")
        start = time.perf_counter()

    lab = random_lab(shape)
    whole = lab.view.graph.n_edges
    done("making the model", whole)
    _ = lab.judge, lab.held_out_judge
    done("running it", whole)
    scores = lab.score("eap-ig")
    done("scoring all edges", whole)
    found = lab.search(scores)
    done("searching", found.size)
    found = lab.minimal(found)
    done("minimality pass", found.size)
    circuit = lab.circuit(found)
    done("evidence", found.size)
    save_file({"scores": scores.mean, "rms": scores.both[1].clone()}, folder / "scores.safetensors")
    path = folder / "circuit.json"
    circuit.save(path)
    done("writing", found.size)
    subprocess.run([sys.executable, "-m", "acdc_engine", "show", str(path)], check=True, capture_output=True)
    done("acdc show of the circuit", found.size)
    load_file(folder / "scores.safetensors")
    done("reading the scores", found.size)
    return stages


def main(
    shapes: Annotated[str, typer.Argument(help=f"Some of {', '.join(SHAPES)}, with commas.")] = ",".join(SHAPES),
    threads: Threads = 2,
    out: Out = None,
) -> None:
    """Times a run on graphs of 0.8 to 16.7 million edges: each shape in a process of its own."""
    torch.set_num_threads(threads)
    names = shapes.split(",")
    if unknown := [name for name in names if name not in SHAPES]:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(SHAPES)}.")
    record: dict[str, Any] = {
        "machine": describe_machine(),
        "settings": {"prompts": PROMPTS, "tokens": TOKENS, "threads": threads},
    }
    for name in names:
        with errors_in_words(), TemporaryDirectory() as folder:
            stages = measure(name, Path(folder))
        rows = tuple((s.name, f"{s.seconds:.1f}", f"{s.peak_bytes / 1e9:.2f}", f"{s.edges:,}") for s in stages)
        whole = sum(stage.seconds for stage in stages)
        rows += (("all", f"{whole:.0f}", f"{stages[-1].peak_bytes / 1e9:.2f}", f"{stages[-1].edges:,}"),)
        note = f"{PROMPTS} random prompts of {TOKENS} tokens, {threads} threads. Peak: of the process so far."
        table = Table(
            f"{name}'s graph: {stages[0].edges:,} edges", ("stage", "seconds", "peak GB", "edges"), rows, note
        )
        give(out, f"large-{name}", {**record, "stages": [asdict(stage) for stage in stages]}, [table])


if __name__ == "__main__":
    typer.run(main)
