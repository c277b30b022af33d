"""What scoring and exact runs cost on a GPU for random models of well-known shapes."""

import gc
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from acdc_engine import Experiment
from acdc_engine.graph.connectivity import clean
from acdc_engine.model import TransformerView
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.score import Method, get_method, score_edges
from acdc_engine.search import Found, singles
from acdc_engine.search.order import best_first, of_size
from benchmarks.gpu_trace import Trace, traces
from benchmarks.report import Table
from benchmarks.shapes import random_prompts, random_view
from benchmarks.timing import HUGGING_FACE, PLAIN, forward_units, interleaved, seconds_of


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    device: str = "cuda"  # where
    dtype: str = "bfloat16"  # number format of the timed models
    prompts: int = 64  # prompts
    most_prompts: int = 512  # tried as one batch, at most
    tokens: int = 64  # their length
    points: int = 5  # integration points of EAP-IG
    repeats: int = 3  # rounds; medians are reported
    matrix: int = 8192  # side of the square matrix product that gives the device's rate
    edges: int = 200  # of the circuit whose edges are tested one by one


@dataclass(frozen=True)
class Cost:
    """One method on one model."""

    model: str  # whose shape
    method: str  # which method
    edges: int  # edges scored
    batch_size: int  # prompts that run at once
    seconds: float  # median seconds for all prompts
    forward_passes: float  # in plain no-grad forwards of the same batches, logits at all positions
    hugging_face_forwards: float  # in forwards of Hugging Face's own eager code
    weights_bytes: int | None  # held by the model; None where the device does not tell
    peak_bytes: int | None  # most memory held at once, weights included
    operations: int  # floating-point operations of all matrix products run (a multiply-add is two)
    matrix_share: float  # operations per second over the device's measured matrix rate
    largest_batch: int | None = None  # prompts, doubled until memory runs out; None where that was not tried


@dataclass(frozen=True)
class ExactCost:
    """Exact runs on one model."""

    model: str  # whose shape
    edges: int  # of the circuit
    preparing: float  # seconds for what all circuits share
    circuits: float  # circuits a second, of another circuit each time
    gradient: float  # seconds of one gradient with respect to the mask
    single_edges: float  # circuits a second in the pass over all edges
    peak_bytes: int | None  # most memory held at once in that pass


def free_memory() -> None:
    """Gives unused blocks back, so that the next measurement starts from what is really held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def fits_in_memory(work: Callable[[], object]) -> bool:
    """Runs something and says whether the device's memory was enough."""
    enough = True
    try:
        work()
    except torch.OutOfMemoryError:
        enough = False
    # Outside the handler: the error holds on to the frames it came through, and they to their tensors.
    free_memory()
    return enough


def largest_that_fits(fits: Callable[[int], bool], first: int, limit: int) -> int:
    """Doubles a size as long as it fits, up to a limit; 0 where not even the first does."""
    size, largest = first, 0
    while size <= limit and fits(size):
        size, largest = 2 * size, size
    return largest


def matrix_rate(settings: Settings) -> float:
    """Operations per second of a square matrix product in the timed number format, median of 20."""
    like: dict[str, Any] = {"device": settings.device, "dtype": getattr(torch, settings.dtype)}
    a, b = torch.randn(2, settings.matrix, settings.matrix, **like)
    for _ in range(5):
        a @ b
    seconds = statistics.median(seconds_of(lambda: a @ b, settings.device) for _ in range(20))
    return 2.0 * settings.matrix**3 / seconds


class Shape:
    """A random model of some shape on the device, and prompts for it."""

    def __init__(self, name: str, config: Any, settings: Settings) -> None:
        """Makes both."""
        self.settings, self._vocab = settings, config.vocab_size
        self.view, self._hf_model = random_view(config, name, settings.device, getattr(torch, settings.dtype))
        self.prompts = self._some(settings.prompts)

    def _some(self, n: int) -> PromptSet:
        return random_prompts(self._vocab, n, self.settings.tokens).to(self.view.device)

    def methods(self) -> dict[str, Method]:
        """What is timed."""
        both = (get_method("eap"), get_method("eap-ig", self.settings.points))
        return {method.name: method for method in both}

    def cost(self, method: Method, rate: float) -> Cost:
        """Of one method; rate: the device's, in operations per second."""
        view, settings = self.view, self.settings
        size = min(settings.prompts, view.fitting(settings.tokens))
        work = partial(_score, view, self.prompts, method, size)
        peak, weights = peak_bytes(view, work)
        units = forward_units(view, self._hf_model, [batch.clean for batch in self.prompts.batches(size)])
        timing = interleaved(units, {method.name: work}, settings.repeats, settings.device)[method.name]
        # Counted by torch as they are dispatched, so nothing is assumed about what is run.
        with FlopCounterMode(display=False) as counter:  # elementwise work counts nothing, masked halves in full
            work()
        operations = int(counter.get_total_flops())
        return Cost(
            model=view.name,
            method=method.name,
            edges=view.graph.n_edges,
            batch_size=size,
            seconds=timing.median,
            forward_passes=timing.worth(PLAIN),
            hugging_face_forwards=timing.worth(HUGGING_FACE),
            weights_bytes=weights,
            peak_bytes=peak,
            operations=operations,
            matrix_share=operations / timing.median / rate,
            largest_batch=self._largest(method) if view.device.type == "cuda" and method.name == "eap" else None,
        )

    def _largest(self, method: Method) -> int:
        greedy = replace(self.view, memory=2**60)  # batches as large as asked for

        def fits(n: int) -> bool:  # where memory runs out the engine goes on with halves
            done, metric = list[int](), get_metric("logit_diff")
            some = self._some(n)
            ran = fits_in_memory(lambda: score_edges(greedy, some, metric, method, batch_size=n, progress=done.append))
            return ran and done == [n]

        return largest_that_fits(fits, self.settings.prompts, self.settings.most_prompts)

    def exact(self) -> tuple[ExactCost, list[Trace]]:
        """Costs of exact runs, and what the device does meanwhile, and while it scores."""
        view, settings = self.view, self.settings
        # Nothing is remembered, or the second run would cost nothing.
        lab = Experiment(view, self.prompts, batch_size=settings.prompts, evaluator=CircuitEvaluator)
        preparing = seconds_of(lambda: lab.judge, settings.device)
        judge, metric, graph = lab.judge, lab.metric, view.graph
        order = best_first(graph, lab.score("eap", per_example=False).both, "absolute")
        mask = clean(graph, of_size(graph, order, settings.edges))
        others = [clean(graph, of_size(graph, order, settings.edges + 2 * i)) for i in range(1, 11)]

        def several() -> None:
            for one in others:
                judge.values(one[None])

        def gradient() -> None:
            judge.evaluator.edge_gradients(mask, metric)

        def every_edge() -> None:
            singles(judge, Found(mask, 1.0), None)

        peak, _ = peak_bytes(view, every_edge)
        n = int(mask.sum())
        works: dict[str, Callable[[], object]] = {
            f"{len(others)} circuits of about {settings.edges} edges": several,
            "a gradient at a circuit": gradient,
            f"{n} single edges": every_edge,
        }
        for method in self.methods().values():
            works[method.name] = partial(_score, view, self.prompts, method, settings.prompts)
        found = traces(works, settings.device)
        ten, slope, alone = (one.seconds for one in found[:3])
        return ExactCost(view.name, n, preparing, len(others) / ten, slope, (n + 1) / alone, peak), found


def _score(view: TransformerView, prompts: PromptSet, method: Method, batch_size: int) -> None:
    score_edges(view, prompts, get_metric("logit_diff"), method, batch_size=batch_size)


def peak_bytes(view: TransformerView, work: Callable[[], object]) -> tuple[int | None, int | None]:
    """Memory held at most during some work, and before; None where the device keeps no count."""
    if view.device.type != "cuda":
        work()
        return None, None
    free_memory()
    before = torch.cuda.memory_allocated(view.device)
    torch.cuda.reset_peak_memory_stats(view.device)
    work()
    return torch.cuda.max_memory_allocated(view.device), before


def cost_table(costs: list[Cost], settings: Settings, rate: float) -> Table:
    """Costs of scoring all models."""

    def row(cost: Cost) -> tuple[str, ...]:
        memory = ["" if size is None else f"{size / 1e9:.2f}" for size in (cost.peak_bytes, cost.weights_bytes)]
        largest = "" if cost.largest_batch is None else str(cost.largest_batch)
        return (
            *(cost.model, cost.method, f"{cost.edges:,}", str(cost.batch_size), f"{cost.seconds:.3f}"),
            *(f"{cost.forward_passes:.2f}", f"{cost.hugging_face_forwards:.2f}", *memory),
            *(f"{cost.matrix_share:.1%}", largest),
        )

    return Table(
        f"{settings.prompts} prompts x {settings.tokens} tokens, {settings.dtype}, EAP-IG: {settings.points} points",
        (
            *("shape", "method", "edges", "batch", "seconds", "forwards"),
            *("HF forwards", "peak GB", "weights GB", "rate", "largest batch"),
        ),
        tuple(row(cost) for cost in costs),
        "Forwards: plain, no gradients, same batches, logits at all positions; HF forwards: of Hugging Face's eager "
        "code. Rate: operations of all matrix products run, over the "
        f"{rate / 1e12:.3g} TFLOP/s of a {settings.matrix}-square {settings.dtype} product. Largest batch: doubled "
        f"from {settings.prompts} prompts until memory runs out, {settings.most_prompts} at most.",
    )


def exact_table(costs: list[ExactCost]) -> Table:
    """Costs of exact runs."""
    rows = tuple(
        (
            *(one.model, str(one.edges), f"{one.preparing:.2f}", f"{one.circuits:.1f}", f"{one.gradient:.3f}"),
            *(f"{one.single_edges:.1f}", "" if one.peak_bytes is None else f"{one.peak_bytes / 1e9:.1f}"),
        )
        for one in costs
    )
    columns = ("shape", "edges", "preparing s", "circuits/s", "gradient s", "single edges/s", "peak GB")
    return Table("Exact runs", columns, rows, "Single edges: the circuit without each of its edges, all prompts.")
