"""Circuits by tasks and ablations, as sections: a matrix for each figure, and what the model itself does."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from acdc_engine.display import counted
from acdc_engine.graph.evidence_records import Interval
from acdc_engine.graph.transfer_records import Transfer, TransferCell, TransferCircuit, TransferColumn
from acdc_engine.show.sections import Column, Section, table_of
from acdc_engine.show.visible import plain
from acdc_engine.show.words import range_of, two, with_ends

Value = tuple[float, Interval | None]
"""A figure and how far it can be trusted."""
AGREEMENT = "Agreement of the most likely token with the model"
FIGURES: dict[str, Callable[[TransferCell], Value]] = {
    "Faithfulness": lambda cell: (cell.faithfulness, cell.faithfulness_interval),
    "KL recovered": lambda cell: (cell.kl_recovered, cell.kl_interval),
    AGREEMENT: lambda cell: (cell.agreement, cell.agreement_interval),
}
"""What matrices show, by their titles."""
_ABREAST = 3
"""Tasks beside each other, so that a matrix fits 80 columns."""
_NAME, _SOURCE = 24, 400


def transfer_sections(found: Transfer) -> list[Section]:
    """What was judged on what; the model on each task; and a matrix for every ablation and figure."""
    counts = [column.n_prompts for column in found.columns]
    many = " to ".join(f"{count}" for count in sorted({min(counts), max(counts)}))
    pairs = {
        "Model": found.model.name,
        "Prompts": f"{many} of each task, seed {found.seed}, none of which the search of any circuit has seen",
        "Time": f"{found.seconds:,.0f} s",
    }
    header = Section(pairs={name: plain(text, _SOURCE) for name, text in pairs.items()})
    return [header, _model(found), *(one for ablation in found.ablations for one in _matrices(found, ablation))]


def _model(found: Transfer) -> Section:
    by_task = {task: [column for column in found.columns if column.task == task] for task in found.tasks}
    rows = []
    for task, columns in by_task.items():
        one, ablated = columns[0], {column.ablation: column.metric_ablated for column in columns}
        metrics = [two(value) for value in (one.metric_clean, *map(ablated.get, found.ablations))]
        shares = ["" if share is None else f"{share:.0%}" for share in (one.accuracy, one.most_likely)]
        rows.append((plain(task, _NAME), f"{one.n_prompts}", one.metric, *metrics, *shares))
    headings: tuple[Column | str, ...] = ("task", "prompts", Column("metric", "text"), "clean", *found.ablations)
    hints = [
        "Clean: the metric of the model; under each ablation that of the model with nothing kept.",
        "Right: a right answer before all wrong ones; top-1: the most likely of all tokens.",
    ]
    return Section(
        "The model on these tasks", hints=hints, table=table_of((*headings, "right", "top-1"), rows, tight=True)
    )


def matrix(found: Transfer, ablation: str, title: str) -> list[list[Value | None]]:
    """A row for each circuit, a value for each task; and a last row for the model with nothing kept."""
    columns = {column.task: column for column in found.columns if column.ablation == ablation and column.cells}
    kept = [
        [FIGURES[title](columns[task].cells[row]) if task in columns else None for task in found.tasks]
        for row in range(len(found.circuits))
    ]
    shares = [columns[t].agreement_ablated if t in columns else None for t in found.tasks]
    # Faithfulness and KL recovered are measured from there.
    return [*kept, [None if share is None else (share if title == AGREEMENT else 0.0, None) for share in shares]]


def _matrices(found: Transfer, ablation: str) -> Iterator[Section]:
    for title in FIGURES:
        rows = list(_rows(found, ablation, title))
        for start in range(0, len(found.tasks), _ABREAST):
            part = slice(start, start + _ABREAST)
            headings = [Column(plain(t, _SOURCE), "text", short=_broken(plain(t, _SOURCE))) for t in found.tasks[part]]
            table = table_of((Column("circuit", "text"), *headings), [(name, *row[part]) for name, row in rows])
            interval = "" if start else " [95 % interval]"
            yield Section(f"{title}{interval}, {plain(ablation, _NAME)} ablation", table=table)


def _rows(found: Transfer, ablation: str, title: str) -> Iterator[tuple[str, list[str]]]:
    *kept, nothing = matrix(found, ablation, title)
    for place, (circuit, row) in enumerate(zip(found.circuits, kept, strict=True)):
        yield label(circuit), [cell_text(value) for value in row]
        cells = [found.cell(place, task, ablation) for task in found.tasks]
        if title == "Faithfulness" and any(cell is not None and cell.random for cell in cells):
            yield "  random ones", ["" if cell is None else _random(cell) for cell in cells]
    if title == AGREEMENT:
        yield "  nothing kept", [cell_text(value) for value in nothing]


def cell_text(value: Value | None) -> str:
    """A figure and its interval, a line each; a dash for none."""
    return "-" if value is None else with_ends(*value, "\n")


def label(circuit: TransferCircuit) -> str:
    """A circuit's name and size; and its task, where the name does not say that."""
    name, task = plain(circuit.name, _NAME), circuit.task
    own = "" if task is None or task in circuit.name else f"{plain(task, _NAME)}, "
    return f"{name}\n  {own}{counted(circuit.edges, 'edge')}"


def _random(cell: TransferCell) -> str:
    return f"{two(sum(cell.random) / len(cell.random))}\n{range_of(cell.random)}"


def _broken(task: str) -> str:
    """A long name in lines, broken at its underscores."""
    lines = [""]
    for part in task.split("_"):
        lines = [*lines, part] if lines[-1] and len(lines[-1] + part) > 12 else [*lines[:-1], lines[-1] + part]
        lines[-1] += "_"
    return "\n".join(lines).removesuffix("_")


def transfer_remarks(found: Transfer) -> list[str]:
    """What a reader should know: what is missing, where figures say little or are not defined, and why."""
    notes = [] if found.complete else ["the run was interrupted: columns are missing."]
    notes += [f"{_where(column)}: {column.reason}" for column in found.columns if column.reason]
    notes += [f"{_where(column)}: figures say little there. {column.doubt}" for column in found.columns if column.doubt]
    return [plain(note, _SOURCE) for note in (*notes, *found.remarks)]


def _where(column: TransferColumn) -> str:
    return f"{column.task}, {column.ablation} ablation"
