"""Running circuits on prompts that several processes share: each runs its own, and all of them get every answer."""

from collections.abc import Callable, Sequence
from importlib.metadata import version

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine import ranks
from acdc_engine.model.view import TransformerView
from acdc_engine.patch.attention_paths import HeadPath
from acdc_engine.patch.circuit_evaluator import CircuitEvaluator
from acdc_engine.patch.evaluator import Circuits, Evaluator, Groups
from acdc_engine.prompts.metrics import Metric
from acdc_engine.prompts.prompt_set import PromptSet


class SharedEvaluator:
    """Has the circuits of all prompts run by the ranks, each on its share. An `Evaluator`; answers are on the CPU.

    They are those of one process but for rounding, and the same on every rank bit by bit. All ranks must ask the same
    questions in the same order.

    Args:
        inner: Runs circuits on this rank's share.
        prompts: All prompts; those of this rank are the `ranks.shared_rows` of them.
    """

    def __init__(self, inner: Evaluator, prompts: PromptSet) -> None:
        self.graph, self.prompts, self.about = inner.graph, prompts.to("cpu"), inner.about
        self._inner, self._n = inner, len(prompts)
        self._mine = ranks.shared_rows(self._n)

    @property
    def exact_evaluations(self) -> int:
        """Circuits run so far."""
        return self._inner.exact_evaluations

    def clean_logits(self) -> Float[Tensor, "prompts d_vocab"]:
        """See `Evaluator`; so the others."""
        return ranks.put_together(ranks.together(self._inner.clean_logits), self._n)

    def ablated_logits(self) -> Float[Tensor, "prompts d_vocab"]:
        """See `Evaluator`."""
        return ranks.put_together(ranks.together(self._inner.ablated_logits), self._n)

    def logits(self, circuits: Circuits) -> Float[Tensor, "circuits prompts d_vocab"]:
        """See `Evaluator`."""
        return ranks.put_together(ranks.together(lambda: self._inner.logits(circuits)), self._n, 1)

    def values(self, circuits: Circuits, metric: Metric) -> Float[Tensor, "circuits prompts"]:
        """See `Evaluator`."""
        return ranks.put_together(ranks.together(lambda: self._inner.values(circuits, metric)), self._n, 1)

    def edge_gradients(
        self, mask: Bool[Tensor, "senders receivers"], metric: Metric, groups: Groups | None = None
    ) -> Float[Tensor, "means_and_rms senders receivers"]:
        """See `Evaluator`."""
        everyone = torch.ones(1, self._n, dtype=torch.bool) if groups is None else groups
        mine = everyone[:, self._mine]
        here = mine.any(1)  # groups that this rank has prompts of
        asked = None if groups is None else mine[here]
        found = ranks.together(lambda: self._inner.edge_gradients(mask, metric, asked)).cpu()
        sums = torch.zeros(len(everyone) + 1, *mask.shape)
        sums[:-1][here] = found[:-1] * mine[here].sum(1)[:, None, None]
        sums[-1] = found[-1].square() * len(self._mine)
        sizes = torch.tensor([*everyone.sum(1).tolist(), self._n])[:, None, None]
        *means, squares = ranks.summed(sums) / sizes
        return torch.stack([*means, squares.sqrt()])

    def path_gradients(
        self, mask: Bool[Tensor, "senders receivers"], heads: Sequence[int], metric: Metric
    ) -> Float[Tensor, "heads targets sources"]:
        """See `Evaluator`."""
        found = ranks.together(lambda: self._inner.path_gradients(mask, heads, metric))
        return ranks.summed(found * len(self._mine)) / self._n

    def path_values(
        self, mask: Bool[Tensor, "senders receivers"], paths: Sequence[HeadPath], metric: Metric
    ) -> Float[Tensor, "paths prompts"]:
        """See `Evaluator`."""
        return ranks.put_together(ranks.together(lambda: self._inner.path_values(mask, paths, metric)), self._n, 1)


def shared_evaluator(
    view: TransformerView,
    prompts: PromptSet,
    ablation: str = "patch",
    batch_size: int = 16,
    before_run: Callable[[], None] = lambda: None,
) -> SharedEvaluator:
    """Runs circuits on this rank's share of some prompts; arguments are those of `CircuitEvaluator`.

    Raises:
        RanksError: Other ranks have other prompts, another model or other packages, or there are too few prompts.
    """
    ranks.agree(
        {
            "acdc-engine": version("acdc-engine"),
            "torch": torch.__version__,
            "the model": f"{view.name} in {view.dtype}",
            "a fingerprint of the prompts": prompts.fingerprint(),
        }
    )
    mine = prompts.select(ranks.shared_rows(len(prompts)))
    inner = ranks.together(
        lambda: CircuitEvaluator(view, mine, ablation, batch_size, before_run, part_of=prompts),
    )
    return SharedEvaluator(inner, prompts)
