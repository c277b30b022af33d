"""Default circuits of the shipped tasks on one another's tasks and under other ablations. Makes docs/transfer.md.

Run it: `python -m benchmarks.transfer`. Circuits that are there already are not searched again.
"""

import json
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from acdc_engine.errors import AcdcError
from acdc_engine.graph.files import CIRCUIT, write_text
from acdc_engine.graph.transfer_records import Transfer
from acdc_engine.model import load_model
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.find import find_task, list_tasks
from acdc_engine.run.check_task import TaskCheck
from acdc_engine.run.discover import discover
from acdc_engine.run.progress import Reporter, reporter_of
from acdc_engine.run.transfer import transfer
from acdc_engine.show.pictures import write_figure
from acdc_engine.show.pictures.matrix import transfer_figure
from acdc_engine.show.sections import text_of
from acdc_engine.show.transfer import FIGURES, cell_text, matrix, transfer_remarks, transfer_sections
from benchmarks.report import RESULTS, Table, Threads, describe_machine, errors_in_words, write_results
from benchmarks.tasks import MODEL, measure

PAGE = Path(__file__).resolve().parent.parent / "docs" / "transfer.md"
TITLE = "Circuits by tasks"
SLOW = ("retrieval_long",)
"""Tasks that are left out unless they are asked for: prompts of a thousand tokens."""


def shown_tasks(names: Iterable[str], view: TransformerView, n: int, reporter: Reporter) -> list[str]:
    """Those of the tasks that the model does."""
    checked = measure([find_task(name) for name in names], view, n, 0, reporter)
    return [one.task for one in checked if isinstance(one, TaskCheck) and one.does_it and one.sizes is not None]


def circuits_of(
    names: Sequence[str], view: TransformerView, runs: Path, reporter: Reporter, **settings: Any
) -> tuple[list[Path], dict[str, str]]:
    """Folders of the tasks' runs, made where there are none; and why a task has none."""
    found, failed = list[Path](), dict[str, str]()
    for name in names:
        folder = runs / name
        if not (folder / CIRCUIT).exists():
            reporter.note(f"{name}:")
            try:
                discover(name, view, out=folder, progress=reporter, **settings)
            except AcdcError as error:
                failed[name] = " ".join(str(error).split())
                continue
        found.append(folder)
    return found, failed


def tables_of(found: Transfer, failed: dict[str, str]) -> list[Table]:
    """A matrix for every ablation and figure; what has no figures, or hardly any meaning, and why."""
    tables = list[Table]()
    for ablation in found.ablations:
        for title in FIGURES:
            names = [*(f"{circuit.name} ({circuit.edges:,})" for circuit in found.circuits), "nothing kept"]
            shown = [[cell_text(value).replace("\n", " ") for value in row] for row in matrix(found, ablation, title)]
            rows = tuple((name, *row) for name, row in zip(names, shown, strict=True))
            tables.append(Table(f"{title}, {ablation} ablation", ("circuit (edges)", *found.tasks), rows))
    told = [("note", text) for text in transfer_remarks(found)] + list(failed.items())
    return [*tables, Table("What to know", ("about", "what"), tuple(told))] if told else tables


def summary(found: Transfer, ablation: str) -> str:
    """How many circuits do the task they were found for, and how many of the others."""
    own, others = list[float](), list[float]()
    for place, circuit in enumerate(found.circuits):
        for task in found.tasks:
            cell = found.cell(place, task, ablation)
            if cell is not None:
                (own if task == circuit.task else others).append(cell.faithfulness)
    return (
        f"{sum(0.9 <= f <= 1.1 for f in own)} of {len(own)} circuits have a faithfulness of 0.9 to 1.1 on their own "
        f"task; on another's, {sum(f >= 0.5 for f in others)} of {len(others)} times one has 0.5 or more."
    )


def write_page(page: Path, found: Transfer, results: Path) -> None:
    """The page of the documentation: what it is about, a picture and a sentence for every ablation."""
    images = page.parent / "images"
    images.mkdir(exist_ok=True)
    prompts = sorted({column.n_prompts for column in found.columns})
    lines = [
        f"# {TITLE}\n",
        f"Made on {found.environment.created[:10]} by `python -m benchmarks.transfer`; how to ask for one's own: "
        "[use](use.md#circuits-by-tasks).\n",
        f"Rows: default circuits of `acdc discover` in {found.model.name}. Columns: the shipped tasks that it does",
        f"({', '.join(SLOW)} left out)," if not set(SLOW) & set(found.tasks) else "",
        f"{' to '.join(map(str, prompts[:1] + prompts[1:][-1:]))} prompts of each (seed {found.seed}) that no search",
        "has seen. Framed: the task that a circuit was found for. In a cell the figure and its 95 % interval: of",
        "faithfulness (1 is the model, 0 the ablated model), of KL recovered, and of the share of prompts on which the",
        "most likely token is the model's. Hatched: the metric does not tell the model from the ablated one.\n",
        f"All figures, with what to know of them: `benchmarks/results/{results.name}`.\n",
    ]
    for ablation in found.ablations:
        columns = tuple(column for column in found.columns if column.ablation == ablation)
        picture = images / f"transfer-{ablation}.svg"
        write_figure(transfer_figure(found.model_copy(update={"columns": columns})), picture, overwrite=True)
        about = f"Circuits by tasks under {ablation} ablation: faithfulness, KL recovered, agreement"
        lines += [f"## {ablation.capitalize()} ablation\n", f"{summary(found, ablation)}\n"]
        lines += [f"![{about}](images/{picture.name})\n"]
    write_text(page, "\n".join(lines).rstrip() + "\n", overwrite=True)


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    tasks: Annotated[
        str,
        typer.Option(help="Which tasks, with commas between them; default those that it does, without long prompts."),
    ] = "",
    circuits: Annotated[str, typer.Option(help="Tasks whose circuits, likewise; default those tasks.")] = "",
    ablations: Annotated[str, typer.Option(help="Which, with commas between them.")] = "patch,mean,zero",
    n: Annotated[int, typer.Option(min=10, help="Prompts of each task.")] = 128,
    n_discovery: Annotated[int | None, typer.Option(min=1, help="Discovery prompts; default that of the run.")] = None,
    seed: Annotated[int, typer.Option(help="Of these prompts.")] = 1,
    runs: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs/transfer"),
    threads: Threads = 2,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = RESULTS,
    page: Annotated[Path, typer.Option(help="Page of the documentation; written only for all tasks.")] = PAGE,
) -> None:
    """Finds default circuits of the shipped tasks in SmolLM2-135M and judges each on all of them."""
    torch.set_num_threads(threads)
    reporter = reporter_of(True)
    asked, whose = ([name.strip() for name in text.split(",") if name.strip()] for text in (tasks, circuits))
    with errors_in_words():
        with reporter.stage("Loading the model"):
            view = load_model(MODEL, device="cpu")
        usual = [name for name in list_tasks() if name not in SLOW]
        names = shown_tasks(asked or usual, view, 64, reporter)
        folders, failed = circuits_of(whose or names, view, runs, reporter, n=n_discovery)
        how: dict[str, Any] = {"n": n, "seed": seed, "out": runs / "transfer.json", "overwrite": True}
        found = transfer(folders, tasks=names, ablations=ablations.split(","), model=view, progress=reporter, **how)
        record = {
            "machine": describe_machine() | {"acdc_engine": version("acdc-engine")},
            "settings": {"model": MODEL, "dtype": "float32", "prompts_per_task": n, "seed": seed},
            "transfer": json.loads(found.model_dump_json()),
            "failed": failed,
        }
        Console().print(text_of(transfer_sections(found)))
        _, as_markdown = write_results(out, "transfer", record, tables_of(found, failed))
        if not asked:
            write_page(page, found, as_markdown)


if __name__ == "__main__":
    app()
