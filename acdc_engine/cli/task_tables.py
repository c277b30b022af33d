"""What `acdc tasks` prints, as rich prints it. The list comes at once: nothing here imports torch for it."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from acdc_engine.graph.style import style_of, texts_of
from acdc_engine.prompts.find import KnownTask, KnownTasks
from acdc_engine.registers import Broken
from acdc_engine.show.visible import LABEL, SPACE, plain, token_columns, visible_token

if TYPE_CHECKING:
    from acdc_engine.prompts.check import Example
    from acdc_engine.run.check_task import Figures, TaskCheck, TaskExamples, Unfit

_LEGEND = (
    "Right: a right answer is more likely than all wrong ones (where there are none: than all other tokens). Top-1: it "
    "is the most likely token of the whole vocabulary. Rank: its place there, median; 1 is the most likely."
)
"""What the columns of answers mean."""
_MOST_ANSWERS = 12
"""Answers shown of each kind."""
_MOST_LINES = 6
"""Lines shown of what is wrong with one of several tasks."""


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
    return [Text.assemble("\n", (f"{_lines_of(str(one))}", "red")) for one in broken]


def _lines_of(text: str) -> str:
    """Several lines of a stranger's text, each made plain."""
    return "\n".join(plain(line) for line in text.splitlines())


def _origin(source: str, known_in: str, *others: str) -> list[str]:
    """Sentences: paper, model, anything else."""
    known = f"Known in {plain(known_in)}" if known_in else ""
    return [f"{part}." for part in (plain(source), known, *others) if part]


def _about(task: KnownTask) -> Text:
    described = Text(plain(task.card.description))
    facts = _origin(task.card.source, task.card.known_in)
    return described + Text("\n" + " ".join(facts), style="dim") if facts else described


def example_pairs(found: "TaskExamples", model: str, width: int) -> RenderableType:
    """Example pairs, template by template."""
    card = found.card
    parts: list[RenderableType] = [
        Text.assemble((card.name, "bold"), f": {plain(card.description)}"),
        Text(" ".join(_origin(card.source, card.known_in, f"Metric {card.metric}")), style="dim"),
        Text(
            f"Tokens of {plain(model)}. {SPACE} is a space, ^^^ marks what differs, read the position whose logits are "
            "read.",
            style="dim",
        ),
    ]
    for template, pairs in groupby(found.pairs, key=lambda pair: pair.template):
        parts += ["", Text(f"Template {plain(template)}", style="bold")]
        for pair in pairs:
            parts += ["", token_columns(pair.clean, pair.corrupt, pair.read_at, width), *_answers(pair)]
    return Group(*parts)


def one_check(found: "TaskCheck") -> RenderableType:
    """Figures of all prompts and of each template, and the verdict."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("template", overflow="fold")
    for name in ("prompts", "right", "top-1", "rank", "clean", "corrupt"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = (*found.templates, found.whole)
    digits = style_of([value for row in rows for value in (row.metric_clean, row.metric_corrupt)])
    for figures in rows:
        style = "bold" if figures is found.whole else ""
        table.add_row(*_cells(figures, digits), style=style)
    legend: list[RenderableType] = [] if found.whole.right is None else [Text(_LEGEND, style="dim"), ""]
    about = Text.assemble(
        (found.task, "bold"),
        f" on {plain(found.model)}: {found.metric}, {_pairs(found)} possible pairs"
        f"{_split(found)}, {found.seconds:.0f} s",
    )
    notes = [Text.assemble(("Note: ", "yellow"), note) for note in found.notes]
    return Group(about, "", table, "", *legend, _verdict(found), *notes, *_next(found))


def several_checks(found: "Sequence[TaskCheck | Unfit]") -> RenderableType:
    """One line per task, and below it what is wrong with those that the model does not do."""
    from acdc_engine.run.check_task import Unfit

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("task", overflow="fold")
    for name in ("n", "right", "top-1", "clean", "corrupt", "pairs", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for one in found:
        if isinstance(one, Unfit):
            table.add_row(Text(one.task), *[""] * 7, Text("does not fit", style="red"))
            continue
        _, n, right, top, _, clean, corrupt = _cells(one.whole)
        yes = Text("does it", style="green") if one.does_it else Text("does not", style="red")
        kinds = {shortcoming.kind for shortcoming in one.shortcomings}
        if kinds == {"corruption"}:
            yes = Text("corruption fails", style="red")
        table.add_row(Text(one.task), n, right, top, clean, corrupt, _pairs(one), f"{one.seconds:.0f} s", yes)
    legend = Text(_LEGEND.partition(" Rank")[0], style="dim")
    parts: list[RenderableType] = [Text(f"Tasks on {plain(found[0].model)}", style="bold"), "", table, "", legend]
    for one in found:
        if isinstance(one, Unfit):
            first = one.reason.splitlines()
            more = f"\n  ... all of it:  acdc tasks check {one.task}" if len(first) > _MOST_LINES else ""
            parts += ["", Text(_lines_of("\n".join([f"{one.task}: {first[0]}", *first[1:_MOST_LINES]])) + more)]
        elif not one.does_it:
            parts += ["", Text(f"{one.task}: " + " ".join(s.text for s in one.shortcomings))]
    return Group(*parts)


def _answers(pair: "Example") -> list[RenderableType]:
    lines: list[RenderableType] = []
    for label, tokens in (("right", pair.answers), ("wrong", pair.wrong_answers)):
        if tokens:
            more = f"  and {len(tokens) - _MOST_ANSWERS} more" if len(tokens) > _MOST_ANSWERS else ""
            shown = " ".join(visible_token(token) for token in tokens[:_MOST_ANSWERS])
            grid = Table.grid()
            grid.add_column(width=LABEL, style="dim")
            grid.add_column(overflow="fold")
            grid.add_row(label, Text(shown + more))
            lines.append(grid)
    return lines


def _cells(figures: "Figures", digits: str | None = None) -> tuple[Text, str, str, str, str, str, str]:
    metrics = (figures.metric_clean, figures.metric_corrupt)
    clean, corrupt = texts_of(*metrics) if digits is None else (format(value, digits) for value in metrics)
    return (
        Text(plain(figures.name, 40)),
        str(figures.prompts),
        _share(figures.right, figures.prompts),
        _share(figures.top, figures.prompts),
        "" if figures.rank is None else f"{figures.rank:,.6g}",
        clean,
        corrupt,
    )


def _share(some: int | None, of: int) -> str:
    return "" if some is None else f"{some / of:.0%}"


def _pairs(found: "TaskCheck") -> str:
    from acdc_engine.run.check_task import COUNTED

    return f">= {COUNTED:,}" if found.pairs >= COUNTED else f"{found.pairs:,}"


def _split(found: "TaskCheck") -> str:
    return "" if found.sizes is None else f" ({found.sizes[0]} discovery and {found.sizes[1]} held-out of them used)"


def _next(found: "TaskCheck") -> list[RenderableType]:
    if found.command is None:
        return []
    return ["", Text("Find its circuit:"), Text(f"    {found.command}", no_wrap=True, overflow="ignore")]


def _verdict(found: "TaskCheck") -> RenderableType:
    if not found.does_it:
        return Group(*(Text(shortcoming.text, style="bold red") for shortcoming in found.shortcomings))
    whole = found.whole
    high, low = texts_of(whole.metric_clean, whole.metric_corrupt)
    fall = f"the corruption lowers {found.metric} from {high} to {low}."
    right = (
        f"{whole.right} of {whole.prompts} prompts answered rightly (chance {found.chance:.0%}), {whole.top} of them "
        "with the right answer as the most likely token, and "
    )
    return Text(f"The model does it: {'' if whole.right is None else right}{fall}", style="bold green")
