"""Executes the notebooks in docs/notebooks again, in place: `make notebook`, or this script with the names of some.

The cells run in an empty folder, so that no path of this machine gets into the outputs. Times of execution and what
libraries say on stderr are left out, ids are numbers: two executions differ only where results do.
"""

import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).with_name("notebooks")
LONGEST_CELL = 3600
"""Seconds; discovering a circuit takes minutes."""
PLACES = (str(Path(__file__).parents[1]), str(Path.home()), tempfile.gettempdir(), sys.prefix)
"""Folders of this machine, none of which may be in the result."""


def execute(notebook: NotebookNode) -> None:
    """Runs all cells in an empty folder."""
    from nbclient import NotebookClient  # of the extra notebook; the rest needs nbformat only

    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, timeout=LONGEST_CELL, resources={"metadata": {"path": folder}})
        client.execute()


def clean(notebook: NotebookNode) -> None:
    """Leaves out what differs from execution to execution without being a result."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for place, cell in enumerate(notebook.cells, start=1):
        cell.id, cell.metadata = f"cell-{place:02}", {}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                if "metadata" in output:
                    output.metadata = {}


def renew(path: Path) -> None:
    """Reads, executes, cleans and writes a notebook; a cell that fails leaves the file as it was."""
    notebook = nbformat.read(path, as_version=4)
    started = time.perf_counter()
    execute(notebook)
    clean(notebook)
    text = nbformat.writes(notebook) + "\n"
    found = [place for place in PLACES if place in text]
    if found:
        sys.exit(f"{path} is left as it was: outputs name {', '.join(found)} on this machine.")
    path.write_text(text)
    print(f"{path}: {len(text) / 1e6:.2f} MB, executed in {time.perf_counter() - started:.0f} s", flush=True)


def main() -> None:
    """Renews the notebooks named, or all."""
    for path in [NOTEBOOKS / f"{name}.ipynb" for name in sys.argv[1:]] or sorted(NOTEBOOKS.glob("*.ipynb")):
        renew(path)


if __name__ == "__main__":
    main()
