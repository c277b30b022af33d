"""Is it the circuit: default searches of several tasks and seeds, on held-out prompts. Makes docs/trust.md.

Run it: `python -m benchmarks.trust`. Runs that are there already are not made again.
"""

import json
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import product
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer

from acdc_engine.errors import AcdcError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Figures
from acdc_engine.graph.files import CIRCUIT, write_text
from acdc_engine.model import load_model
from acdc_engine.patch.judge import Target
from acdc_engine.run.discover import discover
from acdc_engine.run.progress import Reporter, reporter_of
from benchmarks.report import RESULTS, Table, Threads, describe_machine, errors_in_words, print_tables, write_results
from benchmarks.tasks import MODEL

PAGE = Path(__file__).resolve().parent.parent / "docs" / "trust.md"
TASKS = "ioi,greater_than,docstring,gendered_pronoun,sva_relative_clause,capital_country"
WAYS: dict[str, dict[str, Any]] = {
    "mean": {"each_template": False, "n_validation": 0, "n": 32},
    "default": {},
    "kl": {"objective": "kl", "minutes": 15},
    "prompts": {"objective": "prompts", "minutes": 15},
}
"""A target for the mean over 32 discovery prompts alone, the default, and other objectives; only the default is run for
every seed."""
LONG: dict[str, dict[str, Any]] = {"docstring": {"n_validation": 256, "n_held_out": 128, "n_random": 5}}
"""Tasks of which only the default is run, with other numbers: prompts of 41 tokens and one template, of which there are
as many as of each of ioi's, and circuits of so many edges that random ones take long."""
COLUMNS = (
    "task",
    "seed",
    "target",
    "edges",
    "discovery prompts",
    "worst, validation",
    "f in each template, held out",
    "f of all, 95 % interval",
    "holds",
    "KL recovered",
    "prompt by prompt",
    "top-1",
    "without its edges",
    "indispensable",
    "passes",
)


def there(
    tasks: Sequence[str], ways: Sequence[str], seeds: Sequence[int], runs: Path
) -> Iterator[tuple[str, Path, str | None]]:
    """The runs that there are, as `made` gives them."""
    for seed, task, way in product(seeds, tasks, ways):
        folder = runs / f"{task}-{seed}-{way}"
        if (folder / CIRCUIT).exists():
            yield way, folder, None


def made(
    tasks: Sequence[str], ways: Sequence[str], seeds: Sequence[int], n_held_out: int, runs: Path, reporter: Reporter
) -> Iterator[tuple[str, Path, str | None]]:
    """Every run's way and folder, made where there is none; and why it found nothing."""
    with reporter.stage("Loading the model"):
        view = load_model(MODEL, device="cpu")
    for seed in seeds:
        for task in tasks:
            for way in ways:
                if way != "default" and (seed != seeds[0] or task in LONG):
                    continue
                folder, why = runs / f"{task}-{seed}-{way}", None
                if not (folder / CIRCUIT).exists():
                    reporter.note(f"{task}, seed {seed}, {way}:")
                    how = {"seed": seed, "n_held_out": n_held_out, **WAYS[way], **LONG.get(task, {})}
                    try:
                        discover(task, view, out=folder, progress=reporter, **how)
                    except AcdcError as error:
                        why = " ".join(str(error).split())
                yield way, folder, why


def templates_of(figures: Figures) -> dict[str, float]:
    """Faithfulness of each template, or of all prompts where there is one template."""
    each = {one.name: one.faithfulness for one in figures.templates if one.faithfulness is not None}
    return each or {"all": figures.faithfulness}


def holds(circuit: Circuit) -> bool:
    """Whether the target is met on the held-out prompts, in every template."""
    assert circuit.evaluation is not None and circuit.search is not None, "it comes of a run"
    target = Target(circuit.search.target_faithfulness or 0.9)
    return all(target.met(value) for value in templates_of(circuit.evaluation.held_out).values())


def row_of(way: str, circuit: Circuit) -> tuple[str, ...]:
    """A line of the table."""
    task, evaluation, cost = circuit.task, circuit.evaluation, circuit.cost
    assert task is not None and evaluation is not None and cost is not None, "it comes of a run"
    unseen, rest, alone = evaluation.held_out, evaluation.completeness, evaluation.indispensable
    validated = None if circuit.search is None else circuit.search.kept
    interval, answers = unseen.faithfulness_interval, unseen.answers_circuit
    each = ", ".join(f"{value:.2f}" for value in sorted(templates_of(unseen).values()))
    return (
        task.name,
        str(task.seed),
        way,
        f"{len(circuit.edges):,}",
        str(task.n_discovery),
        "" if validated is None else f"{validated.value:.2f}",
        each,
        f"{unseen.faithfulness:.2f}" + ("" if interval is None else f" ({interval.low:.2f} to {interval.high:.2f})"),
        "yes" if holds(circuit) else "no",
        f"{unseen.kl_recovered:.2f}",
        "" if unseen.prompts_recovered is None else f"{unseen.prompts_recovered:.2f}",
        "" if answers is None else f"{answers.most_likely:.0%}",
        "" if rest is None else f"{rest.faithfulness:.2f}",
        "" if alone is None else str(len(alone.edges)),
        f"{cost.forward_passes:.0f}",
    )


def summary(rows: Sequence[tuple[str, ...]], failed: int) -> str:
    """How often the target holds, and how large the circuits are."""
    said, runs = [], [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    for way in WAYS:
        some = [run for run in runs if run["target"] == way]
        if some:
            size = median(int(run["edges"].replace(",", "")) for run in some)
            held = sum(run["holds"] == "yes" for run in some)
            said.append(f"{way}: held in {held} of {len(some)} runs, {size:g} edges in the median")
    return "; ".join(said) + (f"; no circuit in {failed} more." if failed else ".")


def with_earlier(rows: Sequence[tuple[str, ...]], earlier: Path | None) -> tuple[tuple[str, ...], ...]:
    """Rows in order of task, seed and target, with those of an earlier result that were not run again."""
    key = COLUMNS.index("target") + 1
    known = {} if earlier is None else {tuple(run.values())[:key]: tuple(run.values()) for run in _runs_of(earlier)}
    known |= {row[:key]: row for row in rows}
    return tuple(known[one] for one in sorted(known))


def _runs_of(result: Path) -> list[dict[str, str]]:
    runs: list[dict[str, str]] = json.loads(result.read_text())["runs"]
    return runs


def write_page(page: Path, table: Table, results: Path) -> None:
    """The page of the documentation, whose words about what is asked stand in this file."""
    lines = [
        "# Is it the circuit?\n",
        f"Made from runs of `python -m benchmarks.trust`; all figures with the machine: "
        f"`benchmarks/results/{results.name}`.\n",
        "SmolLM2-135M, target .9. Held-out prompts share no text with those of the search and are used once, for",
        "these figures. *mean*: a target for the mean over 32 discovery prompts, by which searches were judged",
        "before. *default*: each template, corrected by validation prompts ([method](method.md#searches)). *kl*,",
        "*prompts*: the default with that objective, 15 minutes at most. *worst, validation*: the objective in the",
        "template where it is farthest from 1. *holds*: on the held-out prompts every template's f lies",
        "in [.9, 1.1]; with 64 to 256 prompts of a template such an f strays by .02 to .04. *top-1*: the right answer",
        "is the circuit's most likely token. *without its edges*: f of the whole model without all edges of the",
        "circuit together. *indispensable*: how many of them the whole model cannot do without, one by one. *passes*:",
        "the work of the run, in plain forward passes over its discovery prompts.\n",
        f"**{table.note}**\n",
        "| " + " | ".join(table.columns) + " |",
        "| " + " | ".join("---" for _ in table.columns) + " |",
        *("| " + " | ".join(row) + " |" for row in table.rows),
    ]
    write_text(page, "\n".join(lines) + "\n", overwrite=True)


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    tasks: Annotated[str, typer.Option(help="Which tasks, with commas between them.")] = TASKS,
    ways: Annotated[str, typer.Option(help=f"Of {', '.join(WAYS)}, with commas between them.")] = "mean,default",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of prompts, from 0 on.")] = 5,
    held_out: Annotated[int, typer.Option(min=10, help="Held-out prompts.")] = 256,
    runs: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs/trust"),
    beside: Annotated[Path | None, typer.Option(help="An earlier result (JSON): its runs are shown, too.")] = None,
    no_search: Annotated[bool, typer.Option("--no-search", help="Show the runs that there are.")] = False,
    threads: Threads = 2,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = RESULTS,
    page: Annotated[Path, typer.Option(help="Page of the documentation; written only for all tasks.")] = PAGE,
) -> None:
    """Runs default searches of SmolLM2-135M for several tasks and seeds, and one of earlier defaults beside each."""
    torch.set_num_threads(threads)
    if unknown := set(ways.split(",")) - set(WAYS):
        raise typer.BadParameter(f"Unknown: {', '.join(sorted(unknown))}. Known: {', '.join(WAYS)}.")
    found, failed = list[tuple[str, Circuit]](), dict[str, str]()
    with errors_in_words():
        asked = tasks.split(","), ways.split(","), range(seeds)
        every = there(*asked, runs) if no_search else made(*asked, held_out, runs, reporter_of(True))
        for way, folder, why in every:
            if why is None:
                found.append((way, Circuit.load(folder / CIRCUIT)))
            else:
                failed[folder.name] = why
        rows = with_earlier([row_of(*one) for one in found], beside)
        tables = [Table("Held-out prompts", COLUMNS, rows, summary(rows, len(failed)))]
        if failed:
            tables.append(Table("No circuit", ("run", "why"), tuple(failed.items())))
        print_tables(tables)
        record = {
            "machine": describe_machine() | {"acdc_engine": version("acdc-engine")},
            "settings": {"model": MODEL, "dtype": "float32", "held_out": held_out, "seeds": seeds},
            "runs": [dict(zip(COLUMNS, row, strict=True)) for row in rows],
            "failed": failed,
        }
        _, as_markdown = write_results(out, "trust", record, tables)
        if set(tasks.split(",")) == set(TASKS.split(",")):
            write_page(page, tables[0], as_markdown)


if __name__ == "__main__":
    app()
