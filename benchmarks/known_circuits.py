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
from benchmarks.known_measure import (
    EXACT_SCORES,
    EXACT_SEARCH,
    KL,
    MANY,
    Bench,
    Scored,
    Searched,
    Settings,
    scorings,
    searches,
)
from benchmarks.report import RESULTS, Figure, Table, describe_machine, errors_in_words, figures_table, give, yes_or_no

SMALL_MODEL = "model.json"
"""What a folder of `graphs/` holds if the model itself is shipped."""
COMPILED, TRAINED = "tracr-", "induction-"
"""How the folders of compiled models and of the trained one begin."""
AREA_ASKED = 0.95


@dataclass(frozen=True)
class Known:
    """A known circuit."""

    name: str  # folder and file, as in gpt2/ioi
    circuit: Circuit  # the truth
    shipped: bool  # whether its model is shipped beside it
    task: str | None  # which shipped task shows the behaviour; None: none does


@dataclass(frozen=True)
class Measured:
    """What was measured with one known circuit."""

    name: str  # of the known circuit
    task: str  # of the task
    shipped: bool  # whether its model is shipped
    edges: int  # in the known circuit
    n_edges: int  # in the model's graph
    prompts: int  # prompts used
    scored: tuple[Scored, ...]  # every scoring
    searched: tuple[Searched, ...]  # every search


def known_circuits(folder: Path) -> list[Known]:
    """The circuit files in the folders of `graphs/` without places, in the order of their names."""
    found, tasks = list[Known](), list(list_tasks())
    for path in sorted(folder.glob("*/*.json")):
        if path.name != SMALL_MODEL:
            circuit = Circuit.load(path)
            if circuit.spans is not None:
                continue
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
    """As many prompts as asked for, or as many as the task gives; not even one is an error."""
    n = settings.n
    while True:
        try:
            return build_splits(card, view.tokenizer, n, 0, settings.seed)[0]
        except PromptError:
            if n == 1:
                raise
            n = n * 3 // 4


def measure_bench(known: Known, bench: Bench) -> Measured:
    """Runs everything against one known circuit."""
    scored = list(scorings(bench))
    by_method = {row.method: both for row, both in scored}
    found = tuple(searches(bench, by_method["eap-ig"], by_method[f"eap-ig{KL}"]))
    facts = (known.name, known.task or "", known.shipped, len(known.circuit.edges), bench.view.graph.n_edges)
    return Measured(*facts, len(bench.prompts), tuple(row for row, _ in scored), found)


def measure(
    folder: Path, models: Sequence[str], only: Sequence[str], settings: Settings, reporter: Reporter
) -> Iterator[Measured | tuple[str, str]]:
    """Runs everything against every known circuit; or gives the name of one that is skipped, and why."""
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
    card = find_task(known.task or "")
    return measure_bench(known, Bench(view, prompts_of(card, view, settings), known.circuit, card.metric, settings))


def known_tables(
    done: Sequence[Measured], skipped: Sequence[tuple[str, str]], figures: Sequence[Figure]
) -> list[Table]:
    """Figures to reach, scorings, searches, and what was skipped."""
    tables = [figures_table(figures), scoring_table(done), search_table(done)]
    if skipped:
        tables.append(Table("Skipped", ("circuit", "why"), tuple(skipped)))
    return tables


def scoring_table(done: Sequence[Measured]) -> Table:
    """Areas of every scoring."""
    columns = ("circuit: scores", "true", "of", "|score|", "rms", "no MLPs", "nodes", "seconds", "forwards", "peak GB")
    rows = tuple(
        (f"{one.name}: {row.method}", f"{one.edges:,}", f"{one.n_edges:,}", *_areas(row), *_cost(row))
        for one in done
        for row in one.scored
    )
    return Table(
        "Scores: area under the ROC curve",
        columns,
        rows,
        "Edges ranked by |mean score| and by root mean square over prompts; the other areas are by |mean score|. No "
        "MLPs: only edges that neither start nor end at one, empty in models without. Nodes: a node's score is the "
        "largest of its outgoing edges. Of: edges of the graph. Scores are of the task's metric, EAP-IG with 5 points, "
        f"unless the name says otherwise. {EXACT_SCORES}: every edge removed by itself from the whole model. A forward "
        "is a plain pass of the same prompts. Peak GB: the most the process held, imports and weights included.",
    )


def search_table(done: Sequence[Measured]) -> Table:
    """What every search found."""
    quality = ("true", "found", "both", "Jaccard", "exact", "AUC", "reached")
    columns = ("circuit: search", *quality, "seconds", "forwards", "peak GB")
    rows, failed = list[tuple[str, ...]](), list[str]()
    for one in done:
        for row in one.searched:
            head = (f"{one.name}: {row.search}", f"{one.edges:,}")
            if row.cost is None:
                rows.append((*head, "none", *[""] * (len(columns) - 3)))
                failed.append(f"{one.name}, {row.search}: {row.failed}")
                continue
            counts = (f"{row.edges:,}", f"{row.both:,}", f"{row.jaccard:.2f}", yes_or_no(row.exact))
            rows.append((*head, *counts, _number(row.area), f"{row.reached:.3f}", *_cost(row)))
    note = (
        "Found: edges of the circuit that the search ends with (iterative: after the minimality pass). Exact: found is "
        "the known circuit, edge by edge. AUC: of being in the found circuit or not. Reached: faithfulness, or KL "
        "recovered, on the prompts searched on. Scores: EAP-IG's; scoring is not in the seconds."
    )
    return Table("Searches", columns, tuple(rows), " ".join((note, *failed)))


def figures_of_known(done: Sequence[Measured]) -> list[Figure]:
    """What was asked: of the compiled models, and of the trained one."""
    figures = list[Figure]()
    for one in done:
        scored = {row.method: row for row in one.scored}
        searched = {row.search: row for row in one.searched}
        if one.name.startswith(COMPILED):
            exact = searched[EXACT_SEARCH]
            figures += [
                *(
                    Figure(
                        f"{one.name}: edge AUC of {name}",
                        f">= {AREA_ASKED}",
                        _number(area := best_area(scored[name])),
                        (area or 0.0) >= AREA_ASKED,
                    )
                    for name in ("eap-ig", f"eap-ig{KL}", f"eap-ig, {MANY} points")
                    if name in scored
                ),
                Figure(
                    f"{one.name}: exact search",
                    "exactly the true edges",
                    f"{exact.edges} found, {exact.both} of {one.edges} true ones, AUC {_number(exact.area)}",
                    exact.exact,
                ),
            ]
        elif one.name.startswith(TRAINED):
            area = best_area(scored["eap-ig"])
            minimal = next(row for name, row in searched.items() if name.startswith("iterative, f"))
            figures += [
                Figure(f"{one.name}: true edges rank first, EAP-IG", "AUC 1", _number(area), area == 1.0),
                Figure(
                    f"{one.name}: 1-minimal circuit has the true edges",
                    "all of them",
                    f"{minimal.both} of {one.edges}, among {minimal.edges}",
                    minimal.both == one.edges,
                ),
            ]
    return figures


def best_area(row: Scored) -> float | None:
    """The larger of the edge areas by |score| and by root mean square."""
    areas = [row.areas[rank].edges for rank in ("absolute", "rms")]
    return max((area for area in areas if area is not None), default=None)


def _areas(row: Scored) -> tuple[str, ...]:
    mean, rms = row.areas["absolute"], row.areas["rms"]
    return tuple(_number(area) for area in (mean.edges, rms.edges, mean.edges_without_mlps, mean.nodes))


def _number(area: float | None) -> str:
    return "" if area is None else f"{area:.3f}"


def _cost(row: Scored | Searched) -> tuple[str, str, str]:
    assert row.cost is not None, "only rows that were measured are shown"
    return f"{row.cost.seconds:.3f}", f"{row.cost.forwards:.1f}", f"{row.cost.peak_bytes / 1e9:.2f}"


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
    with errors_in_words():
        found = list(measure(graphs or graphs_folder(), model or [], only or [], settings, reporter_of(True)))
        give(out, "known-circuits", *report(found, settings))


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
