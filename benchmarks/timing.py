"""Timing that survives a machine whose speed drifts: runs are compared with units measured right before them.

The unit is one plain forward pass, without gradients, of the same batches in the same process.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from acdc_engine.model import TransformerView

Work = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """One thing, timed several times."""

    seconds: tuple[float, ...]  # of every run
    units: dict[str, tuple[float, ...]]  # of every unit, by name, the seconds it took right before each of those runs

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

    One more round comes first and is thrown away: caches, allocator, lazy set-up.
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


PLAIN = "plain forward"
HUGGING_FACE = "Hugging Face's eager forward"


def forward_units(view: TransformerView, hf_model: Any, batches: Sequence[Tensor]) -> dict[str, Work]:
    """The engine's own forward pass, and Hugging Face's as the witness that the unit was not made slow.

    Both compute the logits at every position; Hugging Face's with eager attention.
    """

    def plain() -> None:
        for tokens in batches:
            view.logits(tokens)

    @torch.no_grad()
    def hugging_face() -> None:
        for tokens in batches:
            hf_model(tokens, use_cache=False)

    return {PLAIN: plain, HUGGING_FACE: hugging_face}
