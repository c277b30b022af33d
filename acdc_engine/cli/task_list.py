"""The list of tasks, as rich prints it; without torch, so that it comes at once."""

from collections.abc import Iterable
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from acdc_engine.prompts.find import KnownTask, KnownTasks
from acdc_engine.registers import Broken
from acdc_engine.show.visible import plain


def task_list(found: KnownTasks) -> RenderableType:
    """Tasks by where they come from: name, description, and in a second line paper and model."""
    parts: list[RenderableType] = []
    for package, members in groupby(found.tasks.items(), key=lambda item: item[1].package):
        if parts:
            parts.append("")
        parts.append(Text("Shipped" if package is None else f"From {plain(package)}", style="bold"))
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, style="cyan", min_width=12)
        table.add_column(overflow="fold")
        for name, task in members:
            table.add_row(Text(f"  {name}"), _about(task))
        parts.append(table)
    return Group(*parts)


def broken_lines(broken: Iterable[Broken]) -> list[Text]:
    """A paragraph per plug-in that cannot be used."""
    return [Text.assemble("\n", (f"{lines_of(str(one))}", "red")) for one in broken]


def lines_of(text: str) -> str:
    """Several lines of a stranger's text, each made plain."""
    return "\n".join(plain(line) for line in text.splitlines())


def origin(source: str, known_in: str, *others: str) -> list[str]:
    """Sentences: paper, model, anything else."""
    known = f"Known in {plain(known_in)}" if known_in else ""
    return [f"{part}." for part in (plain(source), known, *others) if part]


def _about(task: KnownTask) -> Text:
    described = Text(plain(task.card.description))
    facts = origin(task.card.source, task.card.known_in)
    return described + Text("\n" + " ".join(facts), style="dim") if facts else described
