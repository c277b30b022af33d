"""Writing and printing what was measured, and on what machine: a JSON file for programs, tables for people."""

import datetime
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table as RichTable

from acdc_engine.graph.files import write_text

MIN_WIDTH = 120
"""Columns of text a table may use even where the output is no terminal (80, by rich's guess)."""

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Table:
    """A table as text.

    Attributes:
        title: What it shows.
        columns: Headings.
        rows: Cells, as many per row as there are headings.
        note: How to read it, below.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


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

    Args:
        folder: Made if it is not there.
        name: What was measured.
        record: JSON-ready; has "machine" and "settings".
        tables: For the Markdown file.

    Returns:
        The two paths.

    Raises:
        CircuitFileError: The folder cannot be written.
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
    """Describes processor, memory, libraries and threads; no host names, no paths.

    Args:
        device: Where the model ran; a CUDA device is described too.

    Returns:
        JSON-ready facts.
    """
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
