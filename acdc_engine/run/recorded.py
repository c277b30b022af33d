"""An evaluator whose answers are in the run's trace, so that a killed run does not ask the model twice."""

import hashlib
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.model.view import TransformerView
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.prompts.metrics import Metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.run.trace import Kind, Trace


class RecordedEvaluator(CircuitEvaluator):
    """Writes everything the model answers about circuits to a trace, and replays what a killed run has left there.

    Answers are replayed in order, bit by bit; a replayed circuit counts as run. `logits` is not recorded: its answers
    are large, and no search asks for them.

    Args:
        trace: Open whenever circuits are run; the evaluator can be made before.
        view: See `CircuitEvaluator`, as for the others.
        prompts: The prompts to judge on.
        ablation: "patch", "mean" or "zero".
        batch_size: Prompts per run.
    """

    def __init__(
        self, trace: Trace, view: TransformerView, prompts: PromptSet, ablation: str = "patch", batch_size: int = 16
    ) -> None:
        """See the class."""
        super().__init__(view, prompts, ablation, batch_size)
        self._trace, self._about = trace, prompts.fingerprint()

    def values(
        self,
        masks: Bool[Tensor, "masks senders receivers"],
        metric: Metric,
        near: Bool[Tensor, "senders receivers"] | None = None,
    ) -> Float[Tensor, "masks prompts"]:
        """See `CircuitEvaluator.values`."""
        before = self.exact_evaluations
        run = super().values
        (values,) = self._answer("values", metric, (masks, near), lambda: (run(masks, metric, near),))
        self.exact_evaluations = before + len(masks)
        return values

    def edge_gradients(
        self, mask: Bool[Tensor, "senders receivers"], metric: Metric
    ) -> Float[Tensor, "2 senders receivers"]:
        """See `CircuitEvaluator.edge_gradients`."""
        run = super().edge_gradients
        (gradients,) = self._answer("gradients", metric, (mask,), lambda: (run(mask, metric),))
        return gradients.cpu()

    def _answer(
        self, kind: Kind, metric: Metric, about: tuple[Tensor | None, ...], run: Callable[[], tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        """From the record, or else from the model and into the record."""
        key = self._key(kind, metric, about)
        found = self._trace.recorded(kind, key)
        if found is not None:
            return tuple(tensor.to(self.view.device) for tensor in found)
        answer = run()
        self._trace.answer(kind, key, answer)
        return answer

    def _key(self, kind: Kind, metric: Metric, about: tuple[Tensor | None, ...]) -> str:
        """Hash of a question: SHA-256 over all that its answer depends on within one run."""
        digest = hashlib.sha256(f"{kind} {metric.name} {self._about}".encode())
        for tensor in about:
            if tensor is None:
                digest.update(b"none")
                continue
            digest.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.detach().contiguous().cpu().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()
