"""How far f of a circuit strays with its prompts, as they are drawn, and as far as it would if they were independent.

Run it: `python -m benchmarks.draws runs/demo`.
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.patch.judge import Judge
from acdc_engine.run.progress import reporter_of
from acdc_engine.run.reopen import reopen
from benchmarks.report import Out, Table, Threads, describe_machine, errors_in_words, give

SIZES = (32, 64, 128, 256)
"""Prompts of a template in a stretch."""


def strays(
    judge: Judge, values: Float[Tensor, "prompts"], rows: Bool[Tensor, "prompts"], size: int
) -> tuple[float, float]:
    """The spread of f over stretches of so many prompts, and what it would be of independent ones."""
    changes, whole = ((one - judge.ablated)[rows].double() for one in (values, judge.clean))
    left = (changes - changes.mean() / whole.mean() * whole) / whole.mean()
    stretches = left[: len(left) // size * size].view(-1, size).mean(1)
    return float(stretches.std()), float(left.std()) / size**0.5


def main(
    circuit: Annotated[Path, typer.Argument(help="A circuit file or the folder of a run.")],
    task: Annotated[str, typer.Option(help="Task whose prompts are drawn.")] = "ioi",
    n: Annotated[int, typer.Option(min=64, help="Prompts.")] = 2048,
    seed: Annotated[int, typer.Option(help="Of the prompts; not that of the run.")] = 78,
    threads: Threads = 1,
    out: Out = None,
) -> None:
    """Judges a circuit on stretches of many prompts of a task."""
    torch.set_num_threads(threads)
    with errors_in_words():
        opened = reopen(circuit, task=task, n=1, n_held_out=n, seed=seed, device="cpu", report=reporter_of(True))
        judge = opened.lab.held_out_judge
        values = judge.values(opened.mask[None])[0]
    names, rows = judge.prompts.templates, list[tuple[str, ...]]()
    for name in sorted(set(names)):
        of_template = torch.tensor([one == name for one in names])
        for size in SIZES:
            if int(of_template.sum()) >= 4 * size:
                found, independent = strays(judge, values, of_template, size)
                rows.append((name, str(size), f"{found:.3f}", f"{independent:.3f}"))
    table = Table(
        f"f of {len(opened.circuit.edges)} edges on stretches of prompts of {task}",
        ("template", "prompts of a stretch", "standard deviation", "of independent prompts"),
        tuple(rows),
        "The last is that of single prompts divided by the root of their number. Few stretches tell little.",
    )
    settings = {"task": task, "prompts": n, "seed": seed, "threads": threads}
    give(out, "draws", {"machine": describe_machine(), "settings": settings, "rows": rows}, [table])


if __name__ == "__main__":
    typer.run(main)
