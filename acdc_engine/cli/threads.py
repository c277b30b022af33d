"""How many CPU threads a command computes with."""

import math
import os
import sys
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
CPUS = Path("/sys/devices/system/cpu")


def use_threads(asked: int | None) -> None:
    """Sets the number of threads, before torch is imported where that is still possible.

    Args:
        asked: How many; None for `OMP_NUM_THREADS` where that is set, or else the physical cores that are free to use.
    """
    # Threads that wait by spinning take the cores from another process's. Measured, two processes of two threads on two
    # cores: 2.5 to 44 s where they spin, 4.6 to 5.8 s where they sleep; one process alone: 1.4 and 1.5 s.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if asked is None and os.environ.get("OMP_NUM_THREADS"):
        return
    number = free_cores() if asked is None else asked
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(number)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(number)


def free_cores() -> int:
    """Physical cores that this process may use: by its affinity, and by the quota of its control group."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {_siblings(cpu) for cpu in allowed}
    return max(1, min(len(cores), _quota()))


def _siblings(cpu: int) -> str:
    """What the threads of one physical core have in common."""
    try:
        return (CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _quota() -> int:
    """Whole cores that a control group allows (containers, SLURM); no limit where there is none."""
    try:
        quota, period = (CGROUP / "cpu.max").read_text().split()
        return max(1, math.floor(int(quota) / int(period)))
    except (OSError, ValueError):  # "max": no limit
        return sys.maxsize
