"""What half precision does to scores and circuits of SmolLM2-135M: against float32, and judged in float32.

Run it: `python -m benchmarks.half`.
"""

import time
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import torch
import typer
from jaxtyping import Float
from scipy.stats import spearmanr
from torch import Tensor

from acdc_engine import Experiment, discover
from acdc_engine.model import load_model
from acdc_engine.patch.judge import Target
from acdc_engine.prompts.build import split_prompts
from acdc_engine.prompts.find import find_task
from acdc_engine.run.progress import Reporter, reporter_of
from benchmarks.report import Figure, Out, Table, Threads, describe_machine, errors_in_words, figures_table, give
from benchmarks.tasks import MODEL

EXACT = "float32"
METHODS = ("eap", "eap-ig")
BEST = 1_000
OVERLAP = 0.9
"""Of the best edges that are to be the same ones, at least."""
FRESH, FRESH_SEED = 256, 77
"""Prompts that no search has seen, by which circuits are judged."""


@dataclass(frozen=True)
class Scored:
    """The scores of one method in one format, beside those in float32.

    Attributes:
        correlation: Spearman's rank correlation over all edges; `of_sizes` that of their absolute values.
        overlap: Share of the best edges by absolute score that are among the best in float32, too.
        seconds: What scoring took.
    """

    format: str
    method: str
    correlation: float
    of_sizes: float
    overlap: float
    seconds: float


def scores_of(format: str, task: str, n: int, reporter: Reporter) -> dict[str, tuple[Float[Tensor, "edges"], float]]:
    """Scores of all edges by every method, and the seconds it took, in one format."""
    view = load_model(MODEL, device="cpu", dtype=format)
    lab = Experiment(view, split_prompts(find_task(task), view.tokenizer, n, 0, 0).discovery)
    found = {}
    for method in METHODS:
        with reporter.stage(f"{method} in {format}", n) as stage:
            start = time.perf_counter()
            scores = lab.score(method, progress=stage.advance).mean.float()[view.graph.exists]
            found[method] = scores, time.perf_counter() - start
    return found


def compared(format: str, method: str, scores: Tensor, exact: Tensor, seconds: float) -> Scored:
    """Scores of all edges beside those in float32."""
    best, wanted = (set(one.abs().topk(min(BEST, len(one) // 10)).indices.tolist()) for one in (scores, exact))
    signed, sizes = (float(spearmanr(*pair).statistic) for pair in ((scores, exact), (scores.abs(), exact.abs())))
    return Scored(format, method, signed, sizes, len(best & wanted) / len(wanted), seconds)


def circuit_of(format: str, task: str, reporter: Reporter) -> dict[str, Any]:
    """The default circuit found in one format, judged in float32 on fresh prompts."""
    found = discover(task, MODEL, dtype=format, n_random=0, progress=reporter)
    view = load_model(MODEL, device="cpu")
    prompts = split_prompts(find_task(task), view.tokenizer, 1, FRESH, FRESH_SEED).held_out
    lab = Experiment(view, prompts, each_template=True)
    by_template = lab.objective.by_group(lab.selection(found).mask[None])[0]
    here = found.evaluation
    assert here is not None and here.held_out is not None, "a default run has held-out prompts"
    return {
        "format": format,
        "edges": len(found.edges),
        "held_out_there": here.held_out.faithfulness,
        "by_template": by_template,
        "edge_names": sorted(f"{edge.sender}->{edge.receiver}" for edge in found.edges),
    }


def main(
    task: Annotated[str, typer.Option(help="Task whose prompts are used.")] = "ioi",
    n: Annotated[int, typer.Option(min=2, help="Prompts that are scored.")] = 32,
    formats: Annotated[str, typer.Option(help="Formats to compare, separated by commas.")] = "bfloat16,float16",
    circuits: Annotated[str, typer.Option(help="Formats in which a circuit is found; '' for none.")] = "bfloat16",
    threads: Threads = 1,
    out: Out = None,
) -> None:
    """Compares half precision with float32 on SmolLM2-135M."""
    torch.set_num_threads(threads)
    reporter = reporter_of(True)
    with errors_in_words():
        exact = scores_of(EXACT, task, n, reporter)
        rows = [Scored(EXACT, method, 1.0, 1.0, 1.0, seconds) for method, (_, seconds) in exact.items()]
        for format in formats.split(","):
            for method, (scores, seconds) in scores_of(format, task, n, reporter).items():
                rows.append(compared(format, method, scores, exact[method][0], seconds))
        found = [circuit_of(format, task, reporter) for format in circuits.split(",") if format]
    worst, target = min(row.overlap for row in rows), Target(0.9)
    figures = [Figure(f"best {BEST:,} edges shared with float32", f">= {OVERLAP}", f"{worst:.3f}", worst >= OVERLAP)]
    figures += [
        Figure(
            f"circuit found in {one['format']}, f in float32 in every template of {FRESH} fresh prompts",
            str(target),
            ", ".join(f"{f:.2f}" for f in one["by_template"]),
            all(map(target.met, one["by_template"])),
        )
        for one in found
    ]
    table = Table(
        f"Scores of all edges, {n} prompts of {task}",
        ("format", "method", "rank correlation", "of sizes", f"best {BEST:,} shared", "seconds"),
        tuple(
            (
                row.format,
                row.method,
                *(f"{x:.4f}" for x in (row.correlation, row.of_sizes, row.overlap)),
                f"{row.seconds:.1f}",
            )
            for row in rows
        ),
        "A CPU without instructions for a format computes in it slowly; on a GPU half precision is faster.",
    )
    record = {
        "machine": describe_machine(),
        "settings": {"model": MODEL, "task": task, "prompts": n, "threads": threads},
        "scores": [asdict(row) for row in rows],
        "circuits": found,
    }
    give(out, "half", record, [figures_table(figures), table])


if __name__ == "__main__":
    typer.run(main)
