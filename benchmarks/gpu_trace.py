"""What a device does during a piece of work: how long it computes, which kernels take the time, how long it waits."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.report import Table
from benchmarks.timing import seconds_of

EDGES_US = (5, 20, 100, 1000)
"""Between which lengths of gaps, in microseconds, are counted."""
_MOST = 12


@dataclass(frozen=True)
class Trace:
    """Of one piece of work.

    Attributes:
        what: Which.
        seconds: From its start to the device's end, without a profiler.
        busy: Seconds in which the device computed or copied.
        launches: Kernels and copies.
        kernels: Seconds of those that take the most, by name.
        gaps: Per length, up to each of `EDGES_US` and longer: how many, and seconds together.
    """

    what: str
    seconds: float
    busy: float
    launches: int
    kernels: dict[str, float]
    gaps: list[tuple[int, float]]

    @property
    def host(self) -> float:
        """Share of the time in which the device waits for the host."""
        return max(0.0, 1.0 - self.busy / self.seconds)


def traces(works: Mapping[str, Callable[[], object]], device: str) -> list[Trace]:
    """Runs each to warm up and for its time, and then, since a profiler slows down all that follows, watched."""
    seconds = dict[str, float]()
    for what, work in works.items():
        work()
        seconds[what] = seconds_of(work, device)
    return [_watched(what, work, seconds[what], device) for what, work in works.items()]


def _watched(what: str, work: Callable[[], object], seconds: float, device: str) -> Trace:
    on_device = torch.device(device).type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_device else ProfilerActivity.CPU]) as watched:
        seconds_of(work, device)
    kind = DeviceType.CUDA if on_device else DeviceType.CPU
    # Its own list of events: torch's tree of them takes minutes for as many as there are here.
    events = [one for one in watched.profiler.kineto_results.events() if one.device_type() == kind]
    spans = sorted((one.start_ns(), one.start_ns() + one.duration_ns()) for one in events)
    kernels = Counter[str]()
    for one in events:
        kernels[one.name()[:80]] += one.duration_ns()
    busy, gaps, end = 0, [[0, 0] for _ in range(len(EDGES_US) + 1)], spans[0][0]
    for begins, ends in spans:
        if begins > end:
            length = sum((begins - end) > 1000 * edge for edge in EDGES_US)
            gaps[length][0] += 1
            gaps[length][1] += begins - end
        busy += max(0, ends - max(begins, end))
        end = max(end, ends)
    return Trace(
        what,
        seconds,
        busy / 1e9,
        len(events),
        {name: spent / 1e9 for name, spent in kernels.most_common(_MOST)},
        [(times, spent / 1e9) for times, spent in gaps],
    )


def trace_tables(traces: list[Trace]) -> list[Table]:
    """How long the device waits in each, and where its time goes in the worst."""
    edges = ("0", *map(str, EDGES_US), "")
    lengths = tuple(f"gaps {low}-{high} us" for low, high in pairwise(edges))
    rows = tuple(
        (
            *(one.what, f"{one.seconds:.3f}", f"{one.busy:.3f}", f"{one.host:.0%}", f"{one.launches:,}"),
            *(f"{times:,}: {1000 * spent:.0f} ms" for times, spent in one.gaps),
        )
        for one in traces
    )
    columns = ("work", "seconds", "device busy", "waits", "launches", *lengths)
    note = "Gaps between kernels of a watched run, which is slower than the timed one."
    tables = [Table("How long the device waits for the host", columns, rows, note)]
    for one in traces:
        spent = tuple((name, f"{1000 * seconds:.1f}") for name, seconds in one.kernels.items())
        tables.append(Table(f"Kernels that take the most time: {one.what}", ("kernel", "ms"), spent))
    return tables
