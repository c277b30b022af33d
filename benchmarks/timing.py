"""Timing that survives a machine whose speed drifts: every run is compared with units measured right before it."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Work = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """One thing, timed several times.

    Attributes:
        seconds: Of every run.
        units: Of every unit, by name, the seconds it took right before each of those runs.
    """

    seconds: tuple[float, ...]
    units: dict[str, tuple[float, ...]]

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)

    def worth(self, unit: str) -> float:
        """How many of a unit the thing costs: the median of the ratios of neighbouring runs."""
        return statistics.median(run / one for run, one in zip(self.seconds, self.units[unit], strict=True))


def seconds_of(work: Work, device: torch.device | str = "cpu") -> float:
    """Seconds of one run, up to the end of what it left to do on the device."""
    _wait(device)
    start = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - start


def interleaved(
    units: Mapping[str, Work], things: Mapping[str, Work], repeats: int, device: torch.device | str = "cpu"
) -> dict[str, Timing]:
    """Times things in turns with units (units, thing, units, next thing, ...), so that drift cancels in the ratios.

    Args:
        units: What costs are expressed in.
        things: What is measured.
        repeats: Rounds that count; one more comes first and is thrown away (caches, allocator, lazy set-up).
        device: Where the work runs.

    Returns:
        Timings of the things by name.
    """
    runs: dict[str, list[float]] = {name: [] for name in things}
    before: dict[str, dict[str, list[float]]] = {name: {unit: [] for unit in units} for name in things}
    for _ in range(repeats + 1):
        for name, thing in things.items():
            for unit, work in units.items():
                before[name][unit].append(seconds_of(work, device))
            runs[name].append(seconds_of(thing, device))
    return {
        name: Timing(tuple(runs[name][1:]), {unit: tuple(found[1:]) for unit, found in before[name].items()})
        for name in things
    }


def _wait(device: torch.device | str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
