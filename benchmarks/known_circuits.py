"""Every scoring method and search strategy against every known circuit that can run here.

Run it: `python -m benchmarks.known_circuits`, with `--model gpt2` where weights of GPT-2 small can be had.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from acdc_engine.errors import AcdcError, PromptError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.model import TransformerView, load_model
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.card import TaskCard
from acdc_engine.prompts.find import find_task, list_tasks
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.run.progress import Reporter, reporter_of
from acdc_engine.shipped import graphs_folder
from benchmarks.known_measure import KL, Bench, Scored, Searched, Settings, scorings, searches
from benchmarks.known_tables import figures_of_known, known_tables
from benchmarks.report import RESULTS, Table, describe_machine, print_tables, write_results

SMALL_MODEL = "model.json"
"""What a folder of `graphs/` holds if the model itself is shipped."""


@dataclass(frozen=True)
class Known:
    """A known circuit.

    Attributes:
        name: Folder and file, as in gpt2/ioi.
        circuit: The truth.
        shipped: Whether its model is shipped beside it.
        task: Which shipped task shows the behaviour; None: none does.
    """

    name: str
    circuit: Circuit
    shipped: bool
    task: str | None


@dataclass(frozen=True)
class Measured:
    """What was measured with one known circuit.

    Attributes:
        name: Of the known circuit.
        task: Of the task.
        shipped: Whether its model is shipped.
        edges: In the known circuit.
        n_edges: In the model's graph.
        prompts: Prompts used.
        scored: Every scoring.
        searched: Every search.
    """

    name: str
    task: str
    shipped: bool
    edges: int
    n_edges: int
    prompts: int
    scored: tuple[Scored, ...]
    searched: tuple[Searched, ...]


def known_circuits(folder: Path) -> list[Known]:
    """The circuit files in the folders of `graphs/`, in the order of their names.

    Raises:
        CircuitFileError: One of them cannot be read.
    """
    found, tasks = list[Known](), list(list_tasks())
    for path in sorted(folder.glob("*/*.json")):
        if path.name != SMALL_MODEL:
            circuit = Circuit.load(path)
            shipped = (path.parent / SMALL_MODEL).is_file()
            found.append(Known(f"{path.parent.name}/{path.stem}", circuit, shipped, task_of(circuit, path, tasks)))
    return found


def task_of(circuit: Circuit, path: Path, tasks: Sequence[str]) -> str | None:
    """The task of a known circuit: what the file says; else the one that its folder or itself are named after.

    The longest name that the folder begins with, or else the file: the folder tracr-reverse belongs to tracr_reverse,
    gpt2/greater_than_hanna.json to greater_than.
    """
    if circuit.task is not None:
        return circuit.task.name
    for text in (path.parent.name.replace("-", "_"), path.stem):
        fitting = [name for name in tasks if f"{text}_".startswith(f"{name}_")]
        if fitting:
            return max(fitting, key=len)
    return None


def prompts_of(card: TaskCard, view: TransformerView, settings: Settings) -> PromptSet:
    """As many prompts as asked for, or as many as the task gives.

    Raises:
        PromptError: It gives not even one.
    """
    n = settings.n
    while True:
        try:
            return build_splits(card, view.tokenizer, n, 0, settings.seed)[0]
        except PromptError:
            if n == 1:
                raise
            n = n * 3 // 4


def measure_circuit(known: Known, view: TransformerView, card: TaskCard, settings: Settings) -> Measured:
    """Runs everything against one known circuit.

    Raises:
        AcdcError: The prompts do not fit the model, or the model's graph is not that of the circuit.
    """
    return measure_bench(known, Bench(view, prompts_of(card, view, settings), known.circuit, card.metric, settings))


def measure_bench(known: Known, bench: Bench) -> Measured:
    """The same with model and prompts at hand."""
    scored = list(scorings(bench))
    by_method = {row.method: both for row, both in scored}
    return Measured(
        known.name,
        known.task or "",
        known.shipped,
        len(known.circuit.edges),
        bench.view.graph.n_edges,
        len(bench.prompts),
        tuple(row for row, _ in scored),
        tuple(searches(bench, by_method["eap-ig"], by_method[f"eap-ig{KL}"])),
    )


def measure(
    folder: Path, models: Sequence[str], only: Sequence[str], settings: Settings, reporter: Reporter
) -> Iterator[Measured | tuple[str, str]]:
    """Runs everything against every known circuit.

    Args:
        folder: With the circuits.
        models: Names of models to load besides the shipped ones.
        only: Names of circuits or folders; empty for all.
        settings: What is measured.
        reporter: Progress.

    Yields:
        What was measured; or the name of a circuit that is skipped, and why.
    """
    for known in known_circuits(folder):
        name, model = known.name, known.circuit.model.name
        if only and not {name, name.partition("/")[0]} & set(only):
            continue
        if known.task is None:
            yield name, "no shipped task is named after it"
        elif not known.shipped and model not in models:
            yield name, f"the weights of {model} are not shipped; --model {model} loads them from the hub"
        else:
            try:
                with reporter.stage(name):
                    view = load_model(str(folder / name.partition("/")[0]) if known.shipped else model, device="cpu")
                    done = _measured(known, view, settings)
            except AcdcError as error:
                yield name, str(error)
            else:
                yield done


def _measured(known: Known, view: TransformerView, settings: Settings) -> Measured | tuple[str, str]:
    if view.graph.shape != known.circuit.shape():
        return known.name, f"{view.name} has the graph {view.graph.shape}, the circuit {known.circuit.shape()}"
    return measure_circuit(known, view, find_task(known.task or ""), settings)


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    model: Annotated[list[str] | None, typer.Option(help="A model to load from the hub too; repeat for more.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="A circuit (gpt2/ioi) or folder; repeat for more.")] = None,
    n: Annotated[int, typer.Option(min=1, help="Prompts, or as many as the task gives.")] = Settings.n,
    seed: Annotated[int, typer.Option(help="Of the prompts.")] = Settings.seed,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = Settings.threads,
    graphs: Annotated[Path | None, typer.Option(help="Folder of known circuits; default the shipped ones.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = RESULTS,
) -> None:
    """Measures how well scores and searches find the known circuits of `graphs/`.

    Circuits of the models shipped there run offline, in minutes. For those of GPT-2 small, --model gpt2 loads the
    weights from the hub or its cache; where they cannot be reached, they are skipped and the reason is in the table.
    """
    settings = Settings(n=n, seed=seed, threads=threads)
    torch.set_num_threads(threads)
    try:
        found = list(measure(graphs or graphs_folder(), model or [], only or [], settings, reporter_of(True)))
        record, tables = report(found, settings)
        print_tables(tables)
        for path in write_results(out, "known-circuits", record, tables):
            typer.echo(f"wrote {path}")
    except AcdcError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from error


def report(found: Sequence[Measured | tuple[str, str]], settings: Settings) -> tuple[dict[str, Any], list[Table]]:
    """The JSON-ready record and the tables."""
    done = [one for one in found if isinstance(one, Measured)]
    skipped = [one for one in found if not isinstance(one, Measured)]
    figures = figures_of_known(done)
    command = (
        f"`python -m benchmarks.known_circuits --n {settings.n} --seed {settings.seed} --threads {settings.threads}`"
    )
    record = {
        "machine": describe_machine() | {"acdc_engine": version("acdc-engine")},
        "settings": {"run_again": command, "ablation": "patch", **asdict(settings)},
        "figures": [asdict(figure) for figure in figures],
        "circuits": [asdict(one) for one in done],
        "skipped": [{"circuit": name, "reason": reason} for name, reason in skipped],
    }
    return record, known_tables(done, skipped, figures)


if __name__ == "__main__":
    app()
