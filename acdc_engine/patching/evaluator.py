"""Judging circuits exactly on a fixed set of prompts."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.errors import PromptError
from acdc_engine.graph.connectivity import clean
from acdc_engine.models.finite import check_finite
from acdc_engine.models.forward import read_positions, run_layers
from acdc_engine.models.view import TransformerView
from acdc_engine.patching.baseline import (
    Baseline,
    build_baseline,
    check_ablation,
    corrupt_values,
    mean_values,
    zero_values,
)
from acdc_engine.patching.patched_run import PatchedRun, start_run
from acdc_engine.prompts.metrics import Metric
from acdc_engine.prompts.prompt_set import PromptSet

BUFFER_BYTES = 256 * 2**20
"""Room for what one run holds at once; decides how many masks run in one batch (one mask runs whatever it needs)."""


@dataclass(frozen=True)
class _Ready:
    """A batch with everything that does not depend on the mask."""

    batch: PromptSet
    baseline: Baseline
    clean_embed: Tensor
    clean_logits: Float[Tensor, "batch d_vocab"]


class CircuitEvaluator:
    """Runs circuits on one set of prompts; what they share is computed once and kept.

    Args:
        view: The model.
        prompts: The prompts to judge on.
        ablation: What removed senders write: "patch" (their value on the corrupt prompt), "mean" (their mean over the
            corrupt prompts, per position) or "zero".
        batch_size: Prompts per run.

    Raises:
        MethodError: For an unknown ablation.
    """

    def __init__(
        self, view: TransformerView, prompts: PromptSet, ablation: str = "patch", batch_size: int = 16
    ) -> None:
        """See the class."""
        self.view, self.prompts, self.ablation = view, prompts, check_ablation(ablation)
        if not len(prompts):
            raise PromptError("There are no prompts to run circuits on.")
        self.exact_evaluations = 0
        self._ready = list(self._prepare(prompts.to(view.device), batch_size))

    def _prepare(self, prompts: PromptSet, batch_size: int) -> Iterator[_Ready]:
        mean = mean_values(self.view, prompts, batch_size) if self.ablation == "mean" else None
        for batch in prompts.batches(batch_size):
            if self.ablation == "patch":
                values = corrupt_values(self.view, batch)
            elif mean is not None:
                values = mean
            else:
                values = zero_values(self.view, batch.clean.shape[1])
            with torch.no_grad():
                embed = self.view.embed(batch.clean)
                final = run_layers(self.view, embed)
                logits = self.view.unembed(read_positions(final, batch.read_at))
            baseline = build_baseline(self.view, batch, values)
            check_finite(self.view, embed, [logits], "clean")
            if self.ablation == "patch":
                check_finite(self.view, self.view.embed(batch.corrupt), [baseline.final], "corrupt")
            yield _Ready(batch, baseline, embed, logits)

    def clean_logits(self) -> Float[Tensor, "prompts d_vocab"]:
        """Logits of the unpatched model at the reading positions."""
        return torch.cat([ready.clean_logits for ready in self._ready])

    def ablated_logits(self) -> Float[Tensor, "prompts d_vocab"]:
        """Logits of the fully ablated model: those of the corrupt run, under patch ablation."""
        with torch.no_grad():
            return torch.cat([self.view.unembed(ready.baseline.final) for ready in self._ready])

    def logits(self, masks: Bool[Tensor, "masks senders receivers"]) -> Float[Tensor, "masks prompts d_vocab"]:
        """Logits at the reading positions under every mask.

        Args:
            masks: Kept edges. Where heads of a layer are coupled (norms after attention) and under mean or zero
                ablation they are cleaned first: there a node cut off from the input is defined to keep its ablated
                value. Elsewhere cleaning would change nothing.
        """
        masks = self._defined(masks)
        self.exact_evaluations += len(masks)
        rows = []
        for ready in self._ready:
            parts = [self._run(ready, group).logits() for group in self._groups(masks, ready.batch)]
            rows.append(torch.cat(parts))
        return torch.cat(rows, 1)

    def values(self, masks: Bool[Tensor, "masks senders receivers"], metric: Metric) -> Float[Tensor, "masks prompts"]:
        """The metric of every prompt under every mask."""
        logits, prompts = self.logits(masks), self.prompts.to(self.view.device)
        reference = self.clean_logits() if metric.needs_clean_logits else None
        return torch.stack([metric(row, prompts, reference) for row in logits])

    def edge_gradients(
        self, mask: Bool[Tensor, "senders receivers"], metric: Metric
    ) -> Float[Tensor, "senders receivers"]:
        """Mean over prompts of the metric's gradient with respect to the mask, at this circuit.

        Args:
            mask: The circuit.
            metric: Higher for more of the behaviour.

        Returns:
            To first order, what every kept edge contributes to the metric; also what a missing edge would add, from a
            computed sender into a receiver that has kept edges already. Zero elsewhere, which says nothing there.
        """
        mask = self._defined(mask[None])
        total = torch.zeros(self.view.graph.n_senders, self.view.graph.n_receivers, device=self.view.device)
        for ready in self._ready:
            total += self._run(ready, mask).edge_gradients(metric, ready.clean_logits)
        exists = self.view.graph.exists.to(total.device)
        return (total / len(self.prompts)).masked_fill(~exists, 0.0).cpu()

    def _defined(self, masks: Tensor) -> Tensor:
        masks = masks.bool() & self.view.graph.exists.to(masks.device)
        return clean(self.view.graph, masks) if self.view.couples_heads or self.ablation != "patch" else masks

    def _run(self, ready: _Ready, masks: Tensor) -> PatchedRun:
        return start_run(self.view, ready.batch, ready.baseline, ready.clean_embed, masks)

    def _groups(self, masks: Tensor, batch: PromptSet) -> Iterator[Tensor]:
        """Splits masks so that one run's buffer, and one layer's inputs and their norms, stay within bounds."""
        shape = self.view.shape
        rows = int(masks.any(0).any(1).sum()) + 2 * (shape.n_heads + 2 * shape.n_kv_heads)
        bytes_per_mask = rows * batch.clean.numel() * self.view.d_model * self.view.unembed_weight.element_size()
        yield from masks.split(max(1, BUFFER_BYTES // bytes_per_mask))
