"""`acdc tasks`: what behaviours there are, what their prompts look like, whether a model shows them, a new one."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from acdc_engine.cli import options
from acdc_engine.cli.command import (
    AsJson,
    Exit,
    app,
    command,
    out,
    print_broken,
    print_json,
    print_notes,
    progress,
    stage,
)

if TYPE_CHECKING:
    from acdc_engine.prompts.check import Example
    from acdc_engine.prompts.find import KnownTask
    from acdc_engine.run.check_task import Figures, TaskCheck, TaskExamples, Unfit

_LEGEND = (
    "Right: a right answer is more likely than all wrong ones (where there are none: than all other tokens). Top-1: it "
    "is the most likely token of the whole vocabulary. Rank: its place there, median; 1 is the most likely."
)
"""What the columns of answers mean."""
_NEXT = """See its prompts:          acdc tasks show NAME
Does a model do it?       acdc tasks check NAME --model MODEL
Begin one of your own:    acdc tasks new NAME"""
_MOST_ANSWERS = 12
"""Answers shown of each kind."""


class _ListAlone(TyperGroup):
    """Without a command, `acdc tasks` is `acdc tasks list`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, ["list", *args] if args in ([], ["--json"]) else args)


tasks = typer.Typer(
    cls=_ListAlone,
    help="Lists tasks, shows their prompts, tries a model on them, begins a new one.\n\n"
    "A task is a behaviour: prompts that show it, matching prompts that do not, a metric. "
    "[bold]acdc tasks[/bold] alone lists them all.",
)
app.add_typer(tasks, name="tasks")


@command("list", group=tasks)
def list_tasks(as_json: AsJson = False) -> None:
    """Lists every task: name, what the model does, paper, the model it is known in, where the task comes from.

    Tasks come with this program or with other packages (plug-ins). A plug-in
    that cannot be used is named with the reason. To use a task of your own, give
    the path of its file.
    """
    from acdc_engine.prompts.find import known_tasks
    from acdc_engine.show.visible import plain

    found = known_tasks()
    if as_json:
        listed = [
            {
                "name": name,
                **task.card.model_dump(include={"description", "source", "known_in"}),
                "package": task.package,
                "path": str(task.path),
            }
            for name, task in found.tasks.items()
        ]
        print_json({"tasks": listed, "broken": [asdict(one) for one in found.broken]})
        return
    for package, members in groupby(found.tasks.items(), key=lambda item: item[1].package):
        out.print("Shipped" if package is None else f"From {plain(package)}", style="bold", markup=False)
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
        table.add_column(no_wrap=True, style="cyan")
        table.add_column(overflow="fold")
        for name, task in members:
            table.add_row(Text(f"  {name}"), _about(task))
        out.print(table, "")
    out.print(_NEXT, style="dim", highlight=False)
    print_broken(found.broken)


def _about(task: "KnownTask") -> Text:
    """What a model does, and in a second line paper and model."""
    from acdc_engine.show.visible import plain

    card = task.card
    facts = [card.source, f"Known in {card.known_in}" if card.known_in else ""]
    told = " ".join(f"{plain(fact)}." for fact in facts if fact)
    return Text(plain(card.description)) + Text(f"\n{told}" if told else "", style="dim")


@command(
    group=tasks,
    settings=("seed", "prepend_bos", "where"),
    examples=["tasks show ioi", "tasks show ioi --where spans", "tasks show pairs.jsonl --n 5"],
)
def show(
    task: options.Task,
    model: Annotated[
        str, options.in_model(help="The model whose tokenizer splits the prompts; its weights are not read.")
    ] = "smollm2-135m",
    n: Annotated[int, options.in_prompts(help="Pairs of each template.")] = 3,
    as_json: AsJson = False,
    **settings: Any,
) -> None:
    """Prints example pairs of each template, token by token, clean above corrupt, with what differs marked.

    With --where spans also the places in each prompt, by their names, as
    discover tells them apart. Reads the model's tokenizer, not its weights.
    """
    with stage("Starting"):
        from acdc_engine.run.check_task import task_examples

        found = task_examples(task, model, n=n, **settings)
    if as_json:
        pairs = [{name: one for name, one in asdict(pair).items() if name != "spans" or one} for pair in found.pairs]
        print_json({"task": found.card.name, "model": model, "pairs": pairs})
        return
    out.print(*_examples(found, model), sep="\n")


@command(
    model=True,
    group=tasks,
    settings=("device", "dtype", "device_map", "adapter", "seed", "prepend_bos", "drop_misfits", "batch_size"),
    examples=["tasks check ioi", "tasks check my_task.toml pairs.jsonl --model gpt2"],
)
def check(
    task: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TASK",
            help="Tasks: names (see [bold]acdc tasks[/bold]), or paths of cards (.toml) or prompt pairs (.jsonl, "
            ".json, .csv, .tsv).",
            show_default="all that have a name",
        ),
    ] = None,
    model: options.Model = "smollm2-135m",
    n: Annotated[int, options.in_prompts(help="Prompts per task, or as many as it has.")] = 32,
    as_json: AsJson = False,
    **settings: Any,
) -> None:
    """Says whether a model does a task, before you spend an hour on its circuit.

    Right answers, and the metric on clean and corrupt prompts. The model does
    it if it is better than chance on the clean prompts and the corruption lowers
    the metric (one-sided tests at 5 %). Prompts are made as discover makes them:
    every pair of a file is looked at, and the command that will run is printed.
    Ends with status 3 if the model does not do it.
    """
    with stage("Starting"):
        from acdc_engine.run.check_task import TaskCheck, check_tasks

    found = check_tasks(task or (), model, n=n, progress=progress(), **settings)
    if as_json:
        print_json({"tasks": [_as_json(one) for one in found]})
    else:
        out.print()
        _print_checks(found)
    if not all(isinstance(one, TaskCheck) and one.does_it for one in found):
        raise typer.Exit(Exit.NO)


@command(group=tasks, examples=["tasks new my_task", "tasks new my_pairs --pairs"])
def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What to call it: lower-case letters, digits and underscores.")
    ],
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Write example pairs (.jsonl, one a line) instead of a card with templates.")
    ] = False,
    out_file: Annotated[
        Path | None, typer.Option("--out", help="File to write.", show_default="NAME.toml or NAME.jsonl, here")
    ] = None,
) -> None:
    """Writes a task to begin with: a card with comments, or prompt pairs. It works as it stands.

    With --pairs every prompt is written out, one pair a line: fields clean,
    corrupt, answers and wrong_answers. No file is ever replaced.
    """
    from acdc_engine.prompts.find import write_new_task

    path = out_file or Path(f"{name}.jsonl" if pairs else f"{name}.toml")
    write_new_task(name, path, pairs=pairs)
    out.print(f"Written to {path}. What to do next:", markup=False)
    for line in (f"tasks show {path}", f"tasks check {path}", f"discover {path}"):
        out.print(f"    acdc {line}", markup=False, highlight=False, soft_wrap=True)


def _as_json(found: "TaskCheck | Unfit") -> dict[str, object]:
    from pydantic_core import to_jsonable_python

    from acdc_engine.run.check_task import TaskCheck

    return {**to_jsonable_python(found), "does_it": isinstance(found, TaskCheck) and found.does_it}


def _examples(found: "TaskExamples", model: str) -> Iterator[RenderableType]:
    """Example pairs, template by template."""
    from acdc_engine.show.visible import BAR, SPACE, plain, token_columns

    card = found.card
    facts = [card.source, f"Known in {card.known_in}" if card.known_in else "", f"Metric {card.metric}"]
    yield Text.assemble((card.name, "bold"), f": {plain(card.description)}")
    yield Text(" ".join(f"{plain(fact)}." for fact in facts if fact), style="dim")
    key = f"{SPACE} is a space, ^^^ marks what differs, read the position whose logits are read."
    if any(pair.spans for pair in found.pairs):
        key += f" {BAR} begins a span."
    yield Text(f"Tokens of {plain(model)}. {key}", style="dim")
    for template, pairs in groupby(found.pairs, key=lambda pair: pair.template):
        yield Text(f"\nTemplate {plain(template)}", style="bold")
        for pair in pairs:
            tokens = token_columns(pair.clean, pair.corrupt, pair.read_at, out.width, pair.spans)
            yield Group("", tokens, *_answers(pair))


def _answers(pair: "Example") -> Iterator[RenderableType]:
    from acdc_engine.show.visible import LABEL, visible_token

    for label, tokens in (("right", pair.answers), ("wrong", pair.wrong_answers)):
        if tokens:
            more = f"  and {len(tokens) - _MOST_ANSWERS} more" if len(tokens) > _MOST_ANSWERS else ""
            shown = " ".join(visible_token(token) for token in tokens[:_MOST_ANSWERS])
            grid = Table.grid()
            grid.add_column(width=LABEL, style="dim")
            grid.add_column(overflow="fold")
            grid.add_row(label, Text(shown + more))
            yield grid


def _print_checks(found: "Sequence[TaskCheck | Unfit]") -> None:
    """A row per template of a task, or per task where there are several; what is wrong with each; what to do next."""
    from acdc_engine.run.check_task import Unfit
    from acdc_engine.show.visible import plain

    alone = len(found) == 1
    table = Table("template" if alone else "task", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.columns[0].overflow = "fold"
    for name in ("prompts", "right", "top-1", "rank", "clean", "corrupt"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for one in found:
        if isinstance(one, Unfit):
            table.add_row(Text(one.task), *[""] * 6, Text("does not fit", style="red"))
            continue
        for figures in one.templates if alone else ():
            table.add_row(Text(plain(figures.name, 40)), *_cells(figures))
        only_corruption = {shortcoming.kind for shortcoming in one.shortcomings} == {"corruption"}
        verdict = "does it" if one.does_it else "corruption fails" if only_corruption else "does not"
        style = "green" if one.does_it else "red"
        table.add_row(Text("all" if alone else one.task), *_cells(one.whole), Text(verdict, style=style))
    about = f"{found[0].task if alone else 'Tasks'} on {plain(found[0].model)}"
    out.print(Text("".join([about, *map(_pairs, found)] if alone else [about]), style="bold"), "", table, sep="\n")
    out.print("", Text(_LEGEND, style="dim"), sep="\n")
    for one in found:
        out.print()
        if isinstance(one, Unfit):
            out.print(Text("\n".join(map(plain, f"{one.task}: {one.reason}".splitlines()))))
        elif not one.does_it:
            told = " ".join(shortcoming.text for shortcoming in one.shortcomings)
            out.print(Text(f"{one.task}: {told}", style="red"))
        elif alone:
            out.print(Text(_verdict(one), style="green"))
        if alone and not isinstance(one, Unfit):
            print_notes([plain(note) for note in one.notes])
            if one.command is not None:
                out.print("\nFind its circuit:\n    " + one.command, markup=False, highlight=False, soft_wrap=True)


def _cells(figures: "Figures") -> tuple[str, ...]:
    from acdc_engine.graph.style import texts_of

    def share(some: int | None) -> str:
        return "" if some is None else f"{some / figures.prompts:.0%}"

    rank = "" if figures.rank is None else f"{figures.rank:,.6g}"
    metrics = texts_of(figures.metric_clean, figures.metric_corrupt)
    return str(figures.prompts), share(figures.right), share(figures.top), rank, *metrics


def _pairs(found: "TaskCheck | Unfit") -> str:
    from acdc_engine.run.check_task import COUNTED, Unfit

    if isinstance(found, Unfit):
        return ""
    pairs = f"{'>= ' if found.pairs >= COUNTED else ''}{found.pairs:,} possible pairs"
    used = "" if found.sizes is None else " ({} discovery and {} held-out of them used)".format(*found.sizes)
    return f": {found.metric}, {pairs}{used}"


def _verdict(found: "TaskCheck") -> str:
    whole = found.whole
    right = f"{whole.right} of {whole.prompts} prompts answered rightly (chance {found.chance:.0%}), and "
    return f"The model does it: {'' if whole.right is None else right}the corruption lowers {found.metric}."
