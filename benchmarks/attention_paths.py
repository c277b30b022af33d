"""Where to take the gradient of attention paths: in the circuit, or in the whole model, as their exact tests tell.

For each task a 1-minimal circuit with places of SmolLM2-135M, found without validation prompts; every path of its heads
is tested exactly, on the same prompts.

Run it: `python -m benchmarks.attention_paths`.
"""

from dataclasses import asdict, dataclass
from typing import Annotated

import torch
import typer
from torch import Tensor

from acdc_engine import Experiment
from acdc_engine.graph.nodes import edges_of_mask, nodes_of_edges
from acdc_engine.model import load_model
from acdc_engine.patch.attention_paths import HeadPath
from acdc_engine.run.progress import reporter_of
from benchmarks.report import Out, Table, Threads, describe_machine, errors_in_words, give
from benchmarks.spans import prompts_of
from benchmarks.tasks import MODEL

TASKS = "ioi,greater_than,gendered_pronoun"


@dataclass(frozen=True)
class Agreement:
    """How well two gradients tell the exact effects of the paths of a circuit.

    Attributes:
        paths: All of them; `working` those whose effect is not zero.
        largest: The largest absolute effect, in units of the metric.
        of: By where the gradient is taken: correlation over the working paths, root mean square of the error over all,
            and how many of the 20 strongest are the same.
    """

    task: str
    edges: int
    paths: int
    working: int
    largest: float
    of: dict[str, tuple[float, float, int]]


def agreement_of(task: str, lab: Experiment, mask: Tensor) -> Agreement:
    """Tests every path of a circuit's heads."""
    graph, evaluator, spans = lab.graph, lab.judge.evaluator, lab.graph.spans
    assert spans is not None, "prompts with places"
    paths = [
        HeadPath(graph.sender_index(node.sender), spans.names.index(node.span), source)
        for node in nodes_of_edges(graph, edges_of_mask(graph, mask))
        if node.kind == "head" and node.span
        for source in range(len(spans))
        if spans.leads[source][spans.names.index(node.span)]
    ]
    heads = sorted({path.head for path in paths})
    whole = lab.judge.values(mask[None])[0].double().mean()
    effects = whole - evaluator.path_values(mask, paths, lab.metric).cpu().double().mean(1)
    working, of = effects.abs() > 1e-6 * effects.abs().max(), dict[str, tuple[float, float, int]]()
    for where, at in (("circuit", mask), ("model", graph.exists)):
        gains = evaluator.path_gradients(at, heads, lab.metric)
        told = torch.stack([gains[heads.index(path.head), path.target, path.source] for path in paths]).double()
        both = torch.stack([told[working], effects[working]])
        strongest = [set(one.abs().argsort(descending=True)[:20].tolist()) for one in (told, effects)]
        error = float((told - effects).square().mean().sqrt())
        of[where] = float(torch.corrcoef(both)[0, 1]), error, len(strongest[0] & strongest[1])
    return Agreement(task, int(mask.sum()), len(paths), int(working.sum()), float(effects.abs().max()), of)


def main(
    tasks: Annotated[str, typer.Option(help="Which tasks, with commas between them.")] = TASKS,
    n: Annotated[int, typer.Option("--n", min=8, help="Discovery prompts.")] = 32,
    threads: Threads = 2,
    out: Out = None,
) -> None:
    """Sets gradients of attention paths against exact tests."""
    torch.set_num_threads(threads)
    reporter, rows = reporter_of(True), list[Agreement]()
    with errors_in_words():
        with reporter.stage("Loading the model", None):
            view = load_model(MODEL, device="cpu")
        for task in tasks.split(","):
            lab = Experiment(view, prompts_of(task, view, n, 10, "spans").discovery)
            with reporter.stage(f"{task}, the circuit", None):
                found = lab.minimal(lab.search(lab.score(per_example=False)))
            with reporter.stage(f"{task}, its paths", None):
                rows.append(agreement_of(task, lab, found.mask))
            print(asdict(rows[-1]), flush=True)
    table = Table(
        "Gradients of attention paths against their exact effects",
        ("task", "edges", "paths", "working", "largest", "at", "correlation", "error", "of the 20 strongest"),
        tuple(
            (
                *(row.task, str(row.edges), str(row.paths), str(row.working), f"{row.largest:.2f}", where),
                *(f"{told[0]:.3f}", f"{told[1]:.3f}", str(told[2])),
            )
            for row in rows
            for where, told in row.of.items()
        ),
        "working: paths with an effect; the correlation is over these, the error, a root mean square in units of the "
        "metric, over all.",
    )
    settings = {"model": MODEL, "prompts": n, "threads": threads}
    give(
        out, "attention", {"machine": describe_machine(), "settings": settings, "tasks": [*map(asdict, rows)]}, [table]
    )


if __name__ == "__main__":
    typer.run(main)
