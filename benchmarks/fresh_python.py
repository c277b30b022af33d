"""Running a fresh Python, and the most memory it took. Processes that measure themselves import this: nothing large."""

import resource
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

    One more run comes first and is thrown away: it may have to compile modules.
    """
    runs = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run_python(arguments)
        runs.append(time.perf_counter() - start)
    return statistics.median(runs[1:])


def run_python(arguments: Sequence[str]) -> str:
    """Runs a fresh Python in the checkout and returns what it printed; what it says where it fails is an error."""
    finished = subprocess.run([sys.executable, *arguments], cwd=CHECKOUT, capture_output=True, text=True)
    if finished.returncode != 0:
        raise CommandError(f"This command failed: python {' '.join(arguments)}\n{finished.stderr.strip()}")
    return finished.stdout


def peak_of(code: str) -> int:
    """The most bytes that a fresh Python ever held that ran this code: interpreter, imports and weights included."""
    ask = "from benchmarks.fresh_python import peak_resident_bytes\nprint(peak_resident_bytes())"
    return int(run_python(["-c", f"{code}\n{ask}"]).split()[-1])


def peak_resident_bytes() -> int:
    """Peak resident bytes of this process.

    On Linux VmHWM, because getrusage's ru_maxrss is inherited: a child started by a process that once held 4 GB reports
    4 GB, whatever it does itself. Without a parent that large the two agree.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
