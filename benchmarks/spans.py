"""Circuits with places in the prompt beside circuits of whole nodes: how many edges, how faithful, at what cost.

Three searches on the same prompts of SmolLM2-135M, each to a 1-minimal circuit and without validation prompts: *plain*,
without places; *one step*, edges at places from the scores on; *two steps*, the plain circuit first, at all places, and
then what can go of it place by place. Figures are of held-out prompts.

Run it: `python -m benchmarks.spans`.
"""

import time
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from acdc_engine import Experiment
from acdc_engine.evidence.figures import figures_of
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.connectivity import clean
from acdc_engine.model import load_model
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.build import Splits, split_prompts
from acdc_engine.prompts.find import find_task
from acdc_engine.run.progress import Reporter, reporter_of
from acdc_engine.search.strategies import Selection
from benchmarks.report import Out, Table, Threads, describe_machine, errors_in_words, give
from benchmarks.tasks import MODEL
from benchmarks.trust import templates_of

TASKS = "ioi,greater_than,gendered_pronoun,docstring"


@dataclass(frozen=True)
class Way:
    """What one search found.

    Attributes:
        pairs: Edges at their places; without places at every one of them.
        edges: Edges, wherever they are; `nodes` heads and MLPs likewise, `places` nodes at a place.
        templates: Faithfulness on the held-out prompts, template by template.
        passes: Of the search alone, in plain forward passes over its prompts.
    """

    task: str
    way: str
    pairs: int
    edges: int
    nodes: int
    places: int
    discovery: float
    faithfulness: float
    templates: dict[str, float]
    kl_recovered: float
    error: float
    top: float
    passes: float
    seconds: float


def everywhere(mask: Tensor, graph: Graph) -> Tensor:
    """A mask without places as one at all of them."""
    wide = torch.cat([mask[:, :-1].repeat_interleave(graph.n_spans, 1), mask[:, -1:]], 1)
    return clean(graph, wide)


def prompts_of(task: str, view: TransformerView, n: int, held_out: int, where: str) -> Splits:
    """Discovery and held-out prompts, with places or without."""
    return split_prompts(find_task(task), view.tokenizer, n, held_out, 0, n_validation=0, where=where)


def measured(task: str, way: str, lab: Experiment, found: Selection, cost: tuple[float, float], n_spans: int) -> Way:
    """A circuit on the held-out prompts."""
    graph, mask = lab.graph, found.mask
    unseen = figures_of(lab.held_out_judge, mask)
    senders = {sender for sender, _ in mask.nonzero().tolist()}
    nodes = {graph.node(sender, receiver) for sender, receiver in mask.nonzero().tolist()}
    times = n_spans if graph.spans is None else 1
    return Way(
        task=task,
        way=way,
        pairs=found.size * times,
        edges=int(graph.plain(mask.numpy()).sum()),
        nodes=len(senders - {graph.INPUT}),
        places=len(nodes) * times,
        discovery=found.faithfulness,
        faithfulness=unseen.faithfulness,
        templates=templates_of(unseen),
        kl_recovered=unseen.kl_recovered,
        error=unseen.normalised_error,
        top=0.0 if unseen.answers_circuit is None else unseen.answers_circuit.most_likely,
        passes=cost[0],
        seconds=cost[1],
    )


def ways_of(
    task: str, view: TransformerView, n: int, held_out: int, each_template: bool, reporter: Reporter
) -> list[Way]:
    """All three searches of one task."""
    splits, placed = (prompts_of(task, view, n, held_out, where) for where in ("none", "spans"))
    plain, spans = (
        Experiment(view, one.discovery, one.held_out, each_template=each_template) for one in (splits, placed)
    )
    n_spans = spans.graph.n_spans
    before = view.work.operations
    with torch.no_grad():
        for batch in splits.discovery.batches(16):
            view.unembed(view.run(view.embed(batch.clean)))
    unit = view.work.operations - before or 1

    def timed(what: str, search: Any) -> tuple[Selection, tuple[float, float]]:
        start, counted = time.perf_counter(), view.work.operations
        with reporter.stage(f"{task}, {what}", None):
            found = search()
        return found, ((view.work.operations - counted) / unit, time.perf_counter() - start)

    whole, cost = timed("plain", lambda: plain.minimal(plain.search(plain.score(per_example=False))))
    found = [measured(task, "plain", plain, whole, cost, n_spans)]
    one, own = timed("one step", lambda: spans.minimal(spans.search(spans.score(per_example=False))))
    found.append(measured(task, "one step", spans, one, own, n_spans))
    wide = everywhere(whole.mask, spans.graph)
    two, more = timed("two steps", lambda: spans.minimal(Selection(wide, whole.faithfulness, search=whole.search)))
    found.append(measured(task, "two steps", spans, two, (cost[0] + more[0], cost[1] + more[1]), n_spans))
    return found


def main(
    tasks: Annotated[str, typer.Option(help="Which tasks, with commas between them.")] = TASKS,
    n: Annotated[int, typer.Option("--n", min=8, help="Discovery prompts.")] = 32,
    held_out: Annotated[int, typer.Option(min=10, help="Held-out prompts.")] = 128,
    each_template: Annotated[bool, typer.Option(help="Ask the target of every template, not of their mean.")] = True,
    threads: Threads = 2,
    out: Out = None,
) -> None:
    """Measures circuits with places beside circuits without."""
    torch.set_num_threads(threads)
    reporter = reporter_of(True)
    with errors_in_words():
        with reporter.stage("Loading the model", None):
            view = load_model(MODEL, device="cpu")
        rows = list[Way]()
        for task in tasks.split(","):
            rows += ways_of(task, view, n, held_out, each_template, reporter)
            print(*(asdict(row) for row in rows[-3:]), sep="\n", flush=True)
    table = Table(
        f"Circuits with places, {held_out} held-out prompts",
        (
            "task",
            "search",
            "pairs",
            "edges",
            "nodes",
            "at places",
            "f",
            "each template",
            "KL",
            "error",
            "top-1",
            "passes",
        ),
        tuple(
            (
                row.task,
                row.way,
                f"{row.pairs:,}",
                f"{row.edges:,}",
                str(row.nodes),
                f"{row.places:,}",
                f"{row.faithfulness:.2f}",
                ", ".join(f"{value:.2f}" for value in sorted(row.templates.values())),
                f"{row.kl_recovered:.2f}",
                f"{row.error:.2f}",
                f"{row.top:.0%}",
                f"{row.passes:.0f}",
            )
            for row in rows
        ),
        "pairs: edges at their places; of a circuit without places at every one of them. Passes are of the search, "
        "with scores and the tests of single edges.",
    )
    settings = {"model": MODEL, "prompts": n, "held_out": held_out, "each_template": each_template, "threads": threads}
    give(out, "spans", {"machine": describe_machine(), "settings": settings, "circuits": [*map(asdict, rows)]}, [table])


if __name__ == "__main__":
    typer.run(main)
