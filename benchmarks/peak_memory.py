"""Peak resident memory of a piece of Python, in a process of its own."""

import resource
import sys
from pathlib import Path

from benchmarks.fresh_python import run_python


def peak_of(code: str) -> int:
    """Runs code in a fresh Python and returns the most memory it ever held.

    Args:
        code: Python statements.

    Returns:
        Peak resident bytes, interpreter, imports and weights included.

    Raises:
        CommandError: The code failed; with what it wrote.
    """
    ask = "from benchmarks.peak_memory import peak_resident_bytes\nprint(peak_resident_bytes())"
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
