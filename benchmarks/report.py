"""Writing and printing what was measured, and on what machine: a JSON file for programs, tables for people."""

import datetime
import json
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import transformers
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table as RichTable

from acdc_engine.errors import AcdcError
from acdc_engine.graph.files import write_text

MIN_WIDTH = 120
"""Columns of text a table may use even where the output is no terminal (80, by rich's guess)."""

RESULTS = Path(__file__).resolve().parent / "results"
Out = Annotated[Path | None, typer.Option(help="Folder for the results; default benchmarks/results, or nowhere.")]
"""Where results go: of smoke runs nowhere, if no folder is named."""
Threads = Annotated[int, typer.Option(min=1, help="Threads of torch; targets are for 2.")]


@dataclass(frozen=True)
class Table:
    """A table as text."""

    title: str  # what it shows
    columns: tuple[str, ...]  # headings
    rows: tuple[tuple[str, ...], ...]  # cells, as many per row as there are headings
    note: str = ""  # how to read it, below


@dataclass(frozen=True)
class Figure:
    """One figure that is asked for: its target and what was measured in words, and whether it is met."""

    what: str
    target: str
    measured: str
    met: bool


def figures_table(figures: Sequence[Figure], note: str = "") -> Table:
    """The figures to reach."""
    rows = tuple((f.what, f.target, f.measured, yes_or_no(f.met)) for f in figures)
    return Table("Figures to reach", ("what", "target", "measured", "met"), rows, note)


def yes_or_no(met: bool) -> str:
    """As tables say it."""
    return "yes" if met else "no"


@contextmanager
def errors_in_words() -> Iterator[None]:
    """Ends a command with what the engine's error says, and status 1."""
    try:
        yield
    except AcdcError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from error


def give(folder: Path | None, name: str, record: dict[str, Any], tables: Sequence[Table]) -> None:
    """Prints the tables, and writes the results where there is a folder for them."""
    print_tables(tables)
    for path in write_results(folder, name, record, tables) if folder else ():
        typer.echo(f"wrote {path}")


def print_tables(tables: Sequence[Table]) -> None:
    """Prints tables on the terminal."""
    console = Console(highlight=False)
    console.width = max(console.width, MIN_WIDTH)
    for table in tables:
        shown = RichTable(title=table.title, box=SIMPLE, title_justify="left")
        for index, column in enumerate(table.columns):
            shown.add_column(column, justify="right" if index else "left", no_wrap=True)
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown, table.note)


def write_results(folder: Path, name: str, record: dict[str, Any], tables: Sequence[Table]) -> tuple[Path, Path]:
    """Writes `<name>-<date>.json` and `.md`; those of an earlier run on the same day are replaced.

    The record is JSON-ready and has "machine" and "settings"; the tables are for the Markdown file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    date = datetime.date.today().isoformat()
    as_json, as_markdown = folder / f"{name}-{date}.json", folder / f"{name}-{date}.md"
    record = {"benchmark": name, "date": date, **record}
    write_text(as_json, json.dumps(record, indent=2, allow_nan=False) + "\n", overwrite=True)
    write_text(as_markdown, _markdown(record, tables), overwrite=True)
    return as_json, as_markdown


def _markdown(record: dict[str, Any], tables: Sequence[Table]) -> str:
    parts = [f"# {record['benchmark']}, {record['date']}"]
    for key in ("machine", "settings"):
        facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in record[key].items())
        parts.append(f"{key.capitalize()}: {facts}.")
    for table in tables:
        lines = [table.columns, tuple("---" if i == 0 else "---:" for i in range(len(table.columns))), *table.rows]
        parts.append(f"## {table.title}")
        parts.append("\n".join("| " + " | ".join(line) + " |" for line in lines))
        if table.note:
            parts.append(table.note)
    return "\n\n".join(parts) + "\n"


def describe_machine(device: str = "cpu") -> dict[str, str | int]:
    """JSON-ready facts on processor, GPU, memory, libraries and threads; no host names, no paths."""
    facts: dict[str, str | int] = {
        "cpu": _cpu_model(),
        "cores": os.cpu_count() or 1,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "threads": torch.get_num_threads(),
    }
    if torch.device(device).type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts["gpu"] = properties.name
        facts["gpu_memory_gb"] = round(properties.total_memory / 1e9)
        facts["cuda"] = str(torch.version.cuda)
    return facts


def _cpu_model() -> str:
    """The processor's name; platform.processor() says no more than "x86_64" on Linux."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
