"""Running a fresh Python. Imports nothing large: processes that measure themselves import this too."""

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from acdc_engine.errors import AcdcError

CHECKOUT = Path(__file__).resolve().parents[1]


class CommandError(AcdcError):
    """A Python of its own failed."""


def seconds_of_python(arguments: Sequence[str], repeats: int) -> float:
    """Median wall-clock seconds of a fresh Python with these arguments, its start and end included.

    Args:
        arguments: What follows `python` on the command line.
        repeats: Runs; one more comes first and is thrown away (it may have to compile modules).

    Raises:
        CommandError: The command failed; with what it wrote.
    """
    runs = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run_python(arguments)
        runs.append(time.perf_counter() - start)
    return statistics.median(runs[1:])


def run_python(arguments: Sequence[str]) -> str:
    """Runs a fresh Python in the checkout and returns what it printed.

    Args:
        arguments: What follows `python` on the command line.

    Raises:
        CommandError: The command failed; with what it wrote.
    """
    finished = subprocess.run([sys.executable, *arguments], cwd=CHECKOUT, capture_output=True, text=True)
    if finished.returncode != 0:
        raise CommandError(f"This command failed: python {' '.join(arguments)}\n{finished.stderr.strip()}")
    return finished.stdout
