"""What a run takes: operations in plain forward passes, seconds, memory."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from acdc_engine.errors import DeviceError
from acdc_engine.graph.records import Cost, StageCost
from acdc_engine.model.devices import Room, running_bytes
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.run.progress import Reporter, Stage
from acdc_engine.score.contract import contraction_bytes

_MUCH = 4 * 2**30
"""Bytes beyond which memory is spoken of."""


@dataclass(frozen=True)
class _Spent:
    """What something took: operations in plain forward passes over the discovery prompts, and time."""

    passes: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def __add__(self, other: "_Spent") -> "_Spent":
        """Both together."""
        return _Spent(self.passes + other.passes, self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds)

    def __sub__(self, other: "_Spent") -> "_Spent":
        """What came after."""
        return _Spent(self.passes - other.passes, self.seconds - other.seconds, self.cpu_seconds - other.cpu_seconds)


def peak_memory(device: torch.device) -> int:
    """Largest memory so far in bytes: of the accelerator where there is one, of the process otherwise (0: unknown)."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.is_file():  # ru_maxrss would start at the peak of the process that started this one
        kilobytes = next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(kilobytes) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # macOS counts bytes


def forward_seconds(view: TransformerView, prompts: PromptSet, batch_size: int) -> float:
    """Seconds of one plain forward pass over a set of prompts."""
    batches = [batch.clean.to(view.device) for batch in prompts.batches(batch_size, view.fitting)]
    start = time.perf_counter()
    for tokens in batches:
        logits = view.logits(tokens)
    if view.device.type == "cuda":
        torch.cuda.synchronize(view.device)
    else:
        float(logits[0, 0, 0])
    return time.perf_counter() - start


class Meter(Reporter):
    """Passes on what a run says, and notes what each of its stages takes."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._stages: dict[str, _Spent] = {}
        self._view: TransformerView | None = None
        self._operations, self._unit, self._scale = 0, 1, 1.0
        self._earlier = _Spent()
        self._began = self._clock()

    def begin(self, view: TransformerView, prompts: PromptSet, batch_size: int) -> None:
        """Counts operations from now on, in plain forward passes over these prompts."""
        self._unit = plain_operations(view, prompts, batch_size)
        self._view, self._operations = view, view.work.operations

    def over(self, prompts: PromptSet, batch_size: int) -> None:
        """Tells the whole cost in plain forward passes over these prompts."""
        assert self._view is not None, "it has begun"
        self._scale = self._unit / plain_operations(self._view, prompts, batch_size)

    def go_on(self, passes: float, seconds: float, cpu_seconds: float) -> None:
        """Adds what earlier processes of this run took."""
        self._earlier = _Spent(passes, seconds, cpu_seconds)

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Stage]:
        """See `Reporter.stage`."""
        before = self._clock()
        try:
            with self._reporter.stage(title, total) as stage:
                yield stage
        finally:
            self._stages[title] = self._stages.get(title, _Spent()) + (self._clock() - before)

    def note(self, text: str) -> None:
        """See `Reporter.note`."""
        self._reporter.note(text)

    def spent(self) -> _Spent:
        """All so far."""
        return self._earlier + (self._clock() - self._began)

    def cost(self, exact_evaluations: int, device: torch.device) -> Cost:
        """All so far, for the circuit file; stages that took next to nothing are left out."""
        whole = self.spent()
        earlier = {"earlier processes": self._earlier} if self._earlier != _Spent() else {}
        return Cost(
            seconds=whole.seconds,
            cpu_seconds=whole.cpu_seconds,
            peak_memory_bytes=peak_memory(device),
            forward_passes=whole.passes * self._scale,
            exact_evaluations=exact_evaluations,
            stages=tuple(
                StageCost(
                    name=name, forward_passes=s.passes * self._scale, seconds=s.seconds, cpu_seconds=s.cpu_seconds
                )
                for name, s in (earlier | self._stages).items()
            ),
        )

    def _clock(self) -> _Spent:
        done = 0 if self._view is None else self._view.work.operations - self._operations
        return _Spent(done / self._unit, time.perf_counter(), time.process_time())


def plain_operations(view: TransformerView, prompts: PromptSet, batch_size: int) -> int:
    """Operations of a plain forward pass over some prompts: what costs are told in."""
    batches = prompts.batches(batch_size, view.fitting)
    return sum(view.plain_operations(*batch.clean.shape) for batch in batches)


def kept_bytes(view: TransformerView, prompts: PromptSet) -> int:
    """Bytes that an evaluator keeps of some prompts.

    The ablated model from the token on at which the corruption begins, what later tokens look back at, and logits.
    """
    size, at_all = view.unembed_weight.element_size(), prompts.clean.numel()
    start = view.first_change(prompts.clean, prompts.corrupt, prompts.read_at)
    later = len(prompts) * (prompts.clean.shape[1] - start)
    total = 2 * len(prompts) * view.d_vocab * size
    for twin in view.twins:
        receivers, senders = twin.block.feeds.shape
        raw = receivers * twin.width if twin.block.kind == "attention" else 0
        total += (at_all * raw + later * (view.d_model + senders * twin.width)) * size
    return total


def near_bytes(view: TransformerView, prompts: PromptSet) -> int:
    """Bytes of what a run of the whole model leaves of some prompts, for runs without single edges.

    A sender's change at every position behind the corruption where a later block looks back at it, and at all reading
    positions.
    """
    start = view.first_change(prompts.clean, prompts.corrupt, prompts.read_at)
    blocks = [twin.block for twin in view.twins]
    everywhere = max((block.before for block in blocks if block.spreads.any()), default=0)
    each = everywhere * (prompts.clean.shape[1] - start) + view.graph.n_senders
    return len(prompts) * each * view.d_model * view.unembed_weight.element_size()


@dataclass(frozen=True)
class Needs:
    """Bytes that a run under patch ablation takes, beside the model's weights.

    Attributes:
        widest: Prompts and tokens of the batch that takes most.
        scoring: Of scoring it.
        circuits: Of running circuits on it.
        kept: What circuits need of all prompts, for as long as the run goes, on the device.
        on_host: As much again in the host's memory, where an accelerator has no room for it.
    """

    widest: tuple[int, int]
    scoring: int
    circuits: int
    kept: int
    on_host: int

    @staticmethod
    def of(
        view: TransformerView, splits: Sequence[PromptSet], batch_size: int, room: Room, device: torch.device
    ) -> "Needs":
        """Of a run on some splits, the discovery prompts first, on a device with some room."""
        batches = [
            [*split.batches(batch_size, lambda pos: room.prompts(pos * view.token_bytes(pos)))] for split in splits
        ]
        needed = [sum(kept_bytes(view, batch) for batch in split) for split in batches]
        needed.append(sum(near_bytes(view, batch) for batch in batches[0]))
        kept, worst = sum(map(room.keeps, needed)), (-1, 0, (0, 0))
        for batch in (batch for split in batches for batch in split):
            n, pos = batch.clean.shape
            tokens = n * (pos - view.first_change(batch.clean, batch.corrupt, batch.read_at))
            scoring = max(tokens * view.token_bytes(pos), contraction_bytes(view, tokens, room, device))
            worst = max(worst, (scoring, tokens, (n, pos)))
        scoring, tokens, widest = worst
        return Needs(widest, scoring, tokens * running_bytes(view) + room.circuits, kept, sum(needed) - kept)


def memory_note(view: TransformerView, *splits: PromptSet, batch_size: int) -> str | None:
    """What runs on discovery and other prompts will take, where it is much: said before anything long.

    Raises:
        DeviceError: More than what everything may take was asked for.
    """
    found = Needs.of(view, splits, batch_size, view.room, view.device)
    told = (
        f"scoring takes about {found.scoring / 2**30:.1f} GiB for a batch of {found.widest[0]} x {found.widest[1]:,} "
        f"tokens, and running circuits keeps about {found.kept / 2**30:.1f} GiB of all prompts"
    )
    if found.on_host:
        told += f" and {found.on_host / 2**30:.1f} GiB of them in the host's memory"
    less = "Fewer or shorter prompts take less (--n, --n-held-out, --n-validation)."
    if view.memory is not None and view.weights_bytes + found.kept + found.scoring > view.memory:
        raise DeviceError(
            f"Memory: of {view.memory / 2**30:.1f} GiB the weights take {view.weights_bytes / 2**30:.1f} GiB; {told}. "
            f"{less}"
        )
    return None if found.scoring + found.kept + found.on_host <= _MUCH else f"Memory: {told}. {less}"
