"""Knocking out a circuit's heads: what it does to its own task, to others and to neutral text, beside random heads.

Run it: `python -m benchmarks.knockout runs/ioi`.
"""

import random
from collections.abc import Sequence
from typing import Annotated, Any

import torch
import typer

from acdc_engine.act.steering import doses
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.steering_records import Dose
from acdc_engine.model import load_model
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.run.prepare import prompts_of
from acdc_engine.run.settings import Settings
from benchmarks.report import Out, Table, Threads, describe_machine, errors_in_words, give

COLUMNS = ("task", "metric", "model", "without", "random heads", "top-1, model", "top-1, without", "top-1, random")
TASKS = "ioi,capital_country,sva_simple,gendered_pronoun,greater_than"


def random_heads(view: TransformerView, heads: Sequence[str], seed: int) -> list[str]:
    """As many other heads."""
    others = [name for name in view.graph.senders if name.startswith("a") and name not in heads]
    return sorted(random.Random(seed).sample(others, len(heads)), key=view.graph.sender_index)


def held_out(view: TransformerView, task: str, n: int) -> tuple[PromptSet, str]:
    """Prompts of a task, and its metric."""
    card = find_task(task)
    made = prompts_of(card, view, Settings(n=10, n_validation=0, n_held_out=n, seed=11))[1]
    return made.held_out, card.metric


def scaled(view: TransformerView, prompts: PromptSet, metric: str, heads: Sequence[str], *factors: float) -> list[Dose]:
    """The model with what some heads write multiplied: 0 is without them, 1 as it is."""
    return doses(view, prompts, get_metric(metric), heads, "scale", factors)


def rows_of(
    view: TransformerView, heads: Sequence[str], tasks: Sequence[str], n: int, draws: int
) -> tuple[list[dict[str, Any]], list[tuple[str, ...]]]:
    """What knocking out does on every task, as figures and in words."""
    figures, rows = list[dict[str, Any]](), list[tuple[str, ...]]()
    for task in tasks:
        prompts, metric = held_out(view, task, n)
        off, own = scaled(view, prompts, metric, heads, 0.0, 1.0)
        others = [scaled(view, prompts, metric, random_heads(view, heads, seed), 0.0)[0] for seed in range(draws)]
        figures.append(
            {
                "task": task,
                "metric": metric,
                "model": own.model_dump(),
                "without": off.model_dump(),
                "random": [one.model_dump() for one in others],
            }
        )
        interval = "" if off.interval is None else f" [{off.interval.low:.2f}, {off.interval.high:.2f}]"
        rows.append(
            (
                task,
                metric,
                f"{own.metric:.2f}",
                f"{off.metric:.2f}{interval}",
                _range([one.metric for one in others]),
                f"{own.most_likely or 0:.0%}",
                f"{off.most_likely or 0:.0%}",
                _range([100 * (one.most_likely or 0) for one in others], "%"),
            )
        )
        typer.echo(" | ".join(rows[-1]), err=True)
    return figures, rows


def _range(values: Sequence[float], unit: str = "") -> str:
    digits = 0 if unit else 2
    return f"{min(values):.{digits}f}{unit} to {max(values):.{digits}f}{unit}"


app = typer.Typer(add_completion=False)


@app.command()
def main(
    circuit: str,
    tasks: str = TASKS,
    n: Annotated[int, typer.Option(help="Prompts of each task.")] = 32,
    draws: Annotated[int, typer.Option(help="Draws of as many other heads.")] = 5,
    model: Annotated[str | None, typer.Option(help="The model.", show_default="the circuit's")] = None,
    threads: Threads = 2,
    out: Out = None,
) -> None:
    """Knocks out a circuit's heads on several tasks."""
    torch.set_num_threads(threads)
    with errors_in_words():
        found = Circuit.load(circuit)
        view = load_model(model or found.model.name)
        heads = [edit.node for edit in found.knockout() if edit.node.startswith("a")]
        figures, rows = rows_of(view, heads, tasks.split(","), n, draws)
    table = Table(f"{view.name} without the {len(heads)} heads of a circuit", COLUMNS, tuple(rows))
    settings = {"heads": " ".join(heads), "n": n, "draws": draws}
    give(out, "knockout", {"machine": describe_machine(), "settings": settings, "tasks": figures}, [table])


if __name__ == "__main__":
    app()
