"""An evaluator that remembers: no question about a circuit is answered twice, not even by a run that was killed.

Its memory needs no order. A question is the hash of what fixes its answer (metric, prompts, ablation, batches) and of
one circuit's edges; the answer is what the model said of that circuit when it was first asked, bit by bit. Answers are
written to the run's trace as they come.
"""

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from acdc_engine.graph.blocks import Graph
from acdc_engine.model.view import TransformerView
from acdc_engine.patch.evaluator import CircuitEvaluator, Circuits, Evaluator, Variants
from acdc_engine.patch.trace import Packed, Recorded, Trace
from acdc_engine.prompts.metrics import Metric
from acdc_engine.prompts.prompt_set import PromptSet

_LANES = np.array([[0x9E3779B97F4A7C15], [0xD1B54A32D192ED03]], np.uint64)


def edges_hash(edges: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hash of a set of edges, as two numbers: the sum of those of its edges, so that a few more or less cost little.

    Args:
        edges: Flat ids, each once, in any order.
    """
    x = (edges.astype(np.uint64) + np.uint64(1)) * _LANES  # then the finaliser of splitmix64
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    hashed: NDArray[np.uint64] = (x ^ (x >> np.uint64(31))).sum(1, dtype=np.uint64)
    return hashed


class RememberingEvaluator:
    """Answers from memory what was asked before, and has another evaluator answer the rest.

    A circuit counts as run once, also where an earlier process of the run has run it. `logits` is not remembered: its
    answers are large, and no search asks for them.

    Args:
        inner: Answers what is new.
        trace: Where answers are written, and those of an earlier process are found; open whenever circuits are run,
            the evaluator can be made before. None to remember in this process alone.
    """

    def __init__(self, inner: Evaluator, trace: Trace | None = None) -> None:
        """See the class."""
        self._inner, self._trace = inner, trace
        self._read: Recorded | None = None
        self._values: dict[str, Tensor] = {}
        self._gradients: dict[str, Packed] = {}
        self._earlier: set[str] = set()
        self._recalled = 0
        self._metrics: dict[str, list[tuple[type, dict[str, object]]]] = {}
        self._base: tuple[Tensor, NDArray[np.uint64]] | None = None

    @property
    def graph(self) -> Graph:
        """See `Evaluator`; so the others."""
        return self._inner.graph

    @property
    def prompts(self) -> PromptSet:
        """See `Evaluator`."""
        return self._inner.prompts

    @property
    def about(self) -> str:
        """See `Evaluator`."""
        return self._inner.about

    @property
    def exact_evaluations(self) -> int:
        """See `Evaluator`."""
        return self._inner.exact_evaluations + self._recalled

    def clean_logits(self) -> Float[Tensor, "prompts d_vocab"]:
        """See `Evaluator`."""
        return self._inner.clean_logits()

    def ablated_logits(self) -> Float[Tensor, "prompts d_vocab"]:
        """See `Evaluator`."""
        return self._inner.ablated_logits()

    def logits(self, circuits: Circuits) -> Float[Tensor, "circuits prompts d_vocab"]:
        """See `Evaluator`."""
        return self._inner.logits(circuits)

    def values(self, circuits: Circuits, metric: Metric) -> Float[Tensor, "circuits prompts"]:
        """See `Evaluator`; on the CPU."""
        self._recall()
        about, hashes = self._about(metric), self._hashes(circuits)
        keys = [about + one for one in hashes]
        self._recalled += len(self._earlier.intersection(keys))
        self._earlier.difference_update(keys)
        first = {key: place for place, key in reversed(list(enumerate(keys)))}
        unknown = sorted(place for key, place in first.items() if key not in self._values)
        if unknown:
            answer = self._inner.values(_some(circuits, unknown), metric).cpu()
            self._values.update(zip((keys[place] for place in unknown), answer, strict=True))
            if self._trace is not None:
                self._trace.answer("values", about, [hashes[place] for place in unknown], Packed.of(answer))
        return torch.stack([self._values[key] for key in keys])

    def edge_gradients(
        self, mask: Bool[Tensor, "senders receivers"], metric: Metric
    ) -> Float[Tensor, "2 senders receivers"]:
        """See `Evaluator`."""
        self._recall()
        about, (circuit,) = self._about(metric), self._hashes(mask[None])
        if about + circuit not in self._gradients:
            packed = Packed.of(self._inner.edge_gradients(mask, metric)[None])
            self._gradients[about + circuit] = packed
            if self._trace is not None:
                self._trace.answer("gradients", about, [circuit], packed)
        return self._gradients[about + circuit].tensor()[0]

    def _recall(self) -> None:
        """Takes in what an earlier process has left, once the trace is open."""
        earlier = None if self._trace is None else self._trace.earlier
        if earlier is None or earlier is self._read:
            return
        self._read = earlier
        for line in earlier.answers:
            keys = [line.about + one for one in line.circuits]
            if line.kind == "gradients":
                self._gradients[keys[0]] = line.answer
            else:
                self._values.update(zip(keys, line.answer.tensor(), strict=True))
                self._earlier.update(keys)

    def _about(self, metric: Metric) -> str:
        """Hash of what fixes an answer beside the circuit; other metrics of a name that is taken are numbered."""
        known, this = self._metrics.setdefault(metric.name, []), (type(metric), vars(metric))
        if this not in known:
            known.append(this)
        text = f"{metric.name} {known.index(this) or ''} {self.about}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _hashes(self, circuits: Circuits) -> list[str]:
        if isinstance(circuits, Variants):
            if self._base is None or self._base[0] is not circuits.base:
                self._base = circuits.base, _hash_of(circuits.base)
            start = self._base[1]
            sums = [start - edges_hash(one.remove) + edges_hash(one.add) for one in circuits.candidates]
        else:
            sums = [_hash_of(mask) for mask in circuits]
        return [f"{first:016x}{second:016x}" for first, second in sums]


def remembering(
    view: TransformerView,
    prompts: PromptSet,
    ablation: str = "patch",
    batch_size: int = 16,
    *,
    trace: Trace | None = None,
    before_run: Callable[[], None] = lambda: None,
) -> RememberingEvaluator:
    """Runs circuits in this process and remembers the answers; see `CircuitEvaluator` and `RememberingEvaluator`."""
    return RememberingEvaluator(CircuitEvaluator(view, prompts, ablation, batch_size, before_run), trace)


def _hash_of(mask: Bool[Tensor, "senders receivers"]) -> NDArray[np.uint64]:
    return edges_hash(np.flatnonzero(mask.numpy(force=True)))


def _some(circuits: Tensor | Variants, places: list[int]) -> Tensor | Variants:
    if isinstance(circuits, Variants):
        return Variants(circuits.base, tuple(circuits.candidates[place] for place in places))
    return circuits if len(places) == len(circuits) else circuits[places]
