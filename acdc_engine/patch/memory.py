"""The memory of answers: no question about a circuit is put to a model twice, not even by a run that was killed.

The search is deterministic given the numbers it asks for. A run that goes on therefore runs the same search again and
finds what it asks for, in whatever order. A question is the hash of what fixes its answer (metric, prompts, ablation,
batches) and of one circuit's edges; the answer is what the model said when it was first asked, bit by bit.
"""

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from acdc_engine import ranks
from acdc_engine.model.view import TransformerView
from acdc_engine.patch.circuit_evaluator import CircuitEvaluator
from acdc_engine.patch.evaluator import Circuits, Evaluator, Groups, Variants
from acdc_engine.patch.trace import Packed, Recorded, Trace
from acdc_engine.prompts.metrics import Metric
from acdc_engine.prompts.prompt_set import PromptSet

_LANES = np.array([[0x9E3779B97F4A7C15], [0xD1B54A32D192ED03]], np.uint64)


def _edges_hash(edges: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hash of a set of edges, as two numbers: the sum of those of its edges, so that a few more or less cost little."""
    x = (edges.astype(np.uint64) + np.uint64(1)) * _LANES  # then the finaliser of splitmix64
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    hashed: NDArray[np.uint64] = (x ^ (x >> np.uint64(31))).sum(1, dtype=np.uint64)
    return hashed


class RememberingEvaluator:
    """Answers from memory what was asked before, and has another evaluator answer the rest. An `Evaluator`.

    A circuit counts as run once, also where an earlier process of the run has run it. `logits` is not remembered: its
    answers are large, and no search asks for them; nor is what is asked of paths, once for a circuit that is found.

    Args:
        inner: Answers what is new.
        trace: Where answers are written, and those of an earlier process are found; open whenever circuits are run,
            the evaluator can be made before. None to remember in this process alone.
    """

    def __init__(self, inner: Evaluator, trace: Trace | None = None) -> None:
        self.graph, self.prompts, self.about = inner.graph, inner.prompts, inner.about
        self.clean_logits, self.ablated_logits, self.logits = inner.clean_logits, inner.ablated_logits, inner.logits
        self.path_gradients, self.path_values = inner.path_gradients, inner.path_values
        self._inner, self._trace = inner, trace
        self._read: Recorded | None = None
        self._values: dict[str, Tensor] = {}
        self._gradients: dict[str, Packed] = {}
        self._earlier: set[str] = set()
        self._recalled = 0
        self._metrics: dict[str, list[tuple[type, dict[str, object]]]] = {}
        self._base: tuple[Tensor, NDArray[np.uint64]] | None = None

    @property
    def exact_evaluations(self) -> int:
        """Circuits run so far, by this process and those before it."""
        return self._inner.exact_evaluations + self._recalled

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
            asked = circuits if len(unknown) == len(circuits) else circuits[unknown]
            answer = self._inner.values(asked, metric).cpu()
            self._values.update(zip((keys[place] for place in unknown), answer, strict=True))
            if self._trace is not None:
                self._trace.answer("values", about, [hashes[place] for place in unknown], Packed.of(answer))
        return torch.stack([self._values[key] for key in keys])

    def edge_gradients(
        self, mask: Bool[Tensor, "senders receivers"], metric: Metric, groups: Groups | None = None
    ) -> Float[Tensor, "means_and_rms senders receivers"]:
        """See `Evaluator`."""
        self._recall()
        about, (circuit,) = self._about(metric, groups), self._hashes(mask[None])
        if (known := self._gradients.get(about + circuit)) is not None:
            return known.tensor()[0]
        answer = self._inner.edge_gradients(mask, metric, groups)
        packed = self._gradients[about + circuit] = Packed.of(answer[None])
        if self._trace is not None:
            self._trace.answer("gradients", about, [circuit], packed)
        return answer

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

    def _about(self, metric: Metric, groups: Groups | None = None) -> str:
        """Hash of what fixes an answer beside the circuit; other metrics of a name that is taken are numbered."""
        known, this = self._metrics.setdefault(metric.name, []), (type(metric), vars(metric))
        if this not in known:
            known.append(this)
        text = f"{metric.name} {known.index(this) or ''} {self.about}"
        if groups is not None:
            text += f" {groups.int().tolist()}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _hashes(self, circuits: Circuits) -> list[str]:
        def of_mask(mask: Tensor) -> NDArray[np.uint64]:
            return _edges_hash(np.flatnonzero(mask.numpy(force=True)))

        if isinstance(circuits, Variants):
            if self._base is None or self._base[0] is not circuits.base:
                self._base = circuits.base, of_mask(circuits.base)
            base = self._base[1]
            sums = [base - _edges_hash(one.remove) + _edges_hash(one.add) for one in circuits.candidates]
        else:
            sums = [of_mask(mask) for mask in circuits]
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
    """Runs circuits and remembers the answers, those of a share of the prompts where this process is one of several.

    See `CircuitEvaluator`, `RememberingEvaluator` and `acdc_engine.patch.shared`.
    """
    made: Callable[..., Evaluator] = CircuitEvaluator
    if ranks.size() > 1:
        from acdc_engine.patch.shared import shared_evaluator

        made = shared_evaluator
    return RememberingEvaluator(made(view, prompts, ablation, batch_size, before_run), trace)
