"""Running circuits exactly on a fixed set of prompts: what may be asked of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.connectivity import Candidate
from acdc_engine.prompts.metrics import Metric
from acdc_engine.prompts.prompt_set import PromptSet

if TYPE_CHECKING:
    from acdc_engine.patch.attention_paths import HeadPath


@dataclass(frozen=True, eq=False)
class Variants:
    """Circuits that differ from one in few edges: what they share with it is computed once, and kept for the next ones.

    Attributes:
        base: The circuit they differ from, on the CPU.
        candidates: How each of them differs.
    """

    base: Bool[Tensor, "senders receivers"]
    candidates: tuple[Candidate, ...]

    def __len__(self) -> int:
        """How many they are."""
        return len(self.candidates)

    def __getitem__(self, places: Iterable[int]) -> "Variants":
        """Some of them."""
        return Variants(self.base, tuple(self.candidates[place] for place in places))

    @staticmethod
    def of(base: Bool[Tensor, "senders receivers"], masks: Bool[Tensor, "circuits senders receivers"]) -> "Variants":
        """Masks that are written out, as how they differ from one."""
        there = base.numpy()
        differences = ((there & ~here, here & ~there) for here in masks.numpy())
        return Variants(base, tuple(Candidate(*map(np.flatnonzero, difference)) for difference in differences))

    def masks(self) -> Bool[Tensor, "circuits senders receivers"]:
        """Each of them written out."""
        masks = self.base.repeat(len(self), 1, 1)
        for edges, one in zip(masks.flatten(1).numpy(), self.candidates, strict=True):
            edges[one.remove], edges[one.add] = False, True
        return masks


Circuits = Bool[Tensor, "circuits senders receivers"] | Variants
"""Circuits to run: each written out and run by itself, or those near one circuit."""


Groups = Bool[Tensor, "groups prompts"]
"""Which prompts belong together, such as those of one template."""


@runtime_checkable
class Evaluator(Protocol):
    """Answers questions about circuits on one set of prompts. Nobody reaches through it for the model.

    `CircuitEvaluator` runs the model; `acdc_engine.patch.memory.RememberingEvaluator` wraps another one.
    """

    @property
    def graph(self) -> Graph:
        """The model's graph."""

    @property
    def prompts(self) -> PromptSet:
        """The prompts, on the device that logits are on."""

    @property
    def about(self) -> str:
        """What fixes the answers beside circuit and metric: prompts, ablation, batches."""

    @property
    def exact_evaluations(self) -> int:
        """Circuits run so far."""

    def clean_logits(self) -> Float[Tensor, "prompts d_vocab"]:
        """Logits of the unpatched model at the reading positions."""

    def ablated_logits(self) -> Float[Tensor, "prompts d_vocab"]:
        """Logits of the fully ablated model: those of the corrupt run, under patch ablation."""

    def logits(self, circuits: Circuits) -> Float[Tensor, "circuits prompts d_vocab"]:
        """Logits at the reading positions under every circuit."""

    def values(self, circuits: Circuits, metric: Metric) -> Float[Tensor, "circuits prompts"]:
        """The metric of every prompt under every circuit."""

    def edge_gradients(
        self, mask: Bool[Tensor, "senders receivers"], metric: Metric, groups: Groups | None = None
    ) -> Float[Tensor, "means_and_rms senders receivers"]:
        """The metric's gradient with respect to the mask, at this circuit: its mean and root mean square over prompts.

        Args:
            mask: The circuit.
            metric: Higher for more of the behaviour.
            groups: Of which prompts the mean is wanted, group by group; None for one mean over all.

        Returns:
            To first order, what every kept edge contributes to the metric; also what a missing edge would add, from a
            computed sender into a receiver that has kept edges already. Zero elsewhere, which says nothing there. First
            the mean over each group; last the root mean square over all prompts, which does not cancel where an edge
            helps one prompt and hurts another.
        """

    def path_gradients(
        self, mask: Bool[Tensor, "senders receivers"], heads: Sequence[int], metric: Metric
    ) -> Float[Tensor, "heads targets sources"]:
        """To first order, what each path of some heads (senders) contributes to the metric in this circuit with spans.

        Means over prompts. See `acdc_engine.patch.attention_paths`.
        """

    def path_values(
        self, mask: Bool[Tensor, "senders receivers"], paths: Sequence["HeadPath"], metric: Metric
    ) -> Float[Tensor, "paths prompts"]:
        """The metric of every prompt under this circuit with spans, without each of some paths of its heads."""
