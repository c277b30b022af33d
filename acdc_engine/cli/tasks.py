"""`acdc tasks`: what behaviours there are, what their prompts look like, whether a model shows them, a new one."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from acdc_engine.cli import options
from acdc_engine.cli.command import AsJson, Exit, app, command, err, examples, out, print_json, progress, starting

if TYPE_CHECKING:
    from acdc_engine.run.check_task import TaskCheck, Unfit


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
    from acdc_engine.cli.task_tables import broken_lines, task_list
    from acdc_engine.prompts.find import known_tasks

    found = known_tasks()
    if as_json:
        listed = [
            {
                "name": name,
                "description": task.card.description,
                "source": task.card.source,
                "known_in": task.card.known_in,
                "package": task.package,
                "path": str(task.path),
            }
            for name, task in found.tasks.items()
        ]
        print_json({"tasks": listed, "broken": [asdict(one) for one in found.broken]})
        return
    out.print(task_list(found))
    out.print()
    for line in (
        "See its prompts:          acdc tasks show NAME",
        "Does a model do it?       acdc tasks check NAME --model MODEL",
        "Begin one of your own:    acdc tasks new NAME",
    ):
        out.print(line, style="dim", highlight=False)
    for text in broken_lines(found.broken):
        err.print(text)


@command(
    group=tasks, settings=("seed", "prepend_bos"), epilog=examples("tasks show ioi", "tasks show pairs.jsonl --n 5")
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

    Reads the model's tokenizer, not its weights.
    """
    with starting():
        from acdc_engine.cli.task_tables import example_pairs
        from acdc_engine.run.check_task import task_examples

        found = task_examples(task, model, n=n, **settings)
    if as_json:
        print_json({"task": found.card.name, "model": model, "pairs": [asdict(pair) for pair in found.pairs]})
        return
    out.print(example_pairs(found, model, out.width))


@command(
    model=True,
    group=tasks,
    settings=("device", "dtype", "seed", "prepend_bos", "drop_misfits", "batch_size"),
    epilog=examples("tasks check ioi", "tasks check my_task.toml pairs.jsonl --model gpt2"),
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
    with starting():
        from acdc_engine.cli.task_tables import one_check, several_checks
        from acdc_engine.run.check_task import TaskCheck, check_tasks

    found = check_tasks(task or (), model, n=n, progress=progress(), **settings)
    if as_json:
        print_json({"tasks": [_as_json(one) for one in found]})
    else:
        out.print()
        out.print(one_check(found[0]) if len(found) == 1 and isinstance(found[0], TaskCheck) else several_checks(found))
    if not all(isinstance(one, TaskCheck) and one.does_it for one in found):
        raise typer.Exit(Exit.NO)


@command(group=tasks, epilog=examples("tasks new my_task", "tasks new my_pairs --pairs"))
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
    from acdc_engine.prompts.starter import check_new_name, starter_card, starter_pairs, write_new

    check_new_name(name)
    path = out_file or Path(f"{name}.jsonl" if pairs else f"{name}.toml")
    write_new(path, starter_pairs() if pairs else starter_card(name))
    out.print(f"Written to {path}. What to do next:", markup=False)
    for line in (f"tasks show {path}", f"tasks check {path}", f"discover {path}"):
        out.print(f"    acdc {line}", markup=False, highlight=False, soft_wrap=True)


def _as_json(found: "TaskCheck | Unfit") -> dict[str, object]:
    from acdc_engine.run.check_task import TaskCheck

    return {**asdict(found), "does_it": isinstance(found, TaskCheck) and found.does_it}
