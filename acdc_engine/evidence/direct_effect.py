"""Direct logit attribution: what each node writes to the answer at the position read, with nothing in between.

nostalgebraist 2020 (logit lens); Elhage et al. 2021, *A Mathematical Framework for Transformer Circuits*; Wang et al.
2022, arXiv 2211.00593, section 3.1. Formula and limits: docs/roles.md.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from acdc_engine.graph.records import DirectEffect
from acdc_engine.model.layers import read_positions
from acdc_engine.model.twins import Record
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.prompt_set import NO_ANSWER, PromptSet


class DirectEffects:
    """Adds up direct effects of `senders`, names of nodes (input, heads, MLPs), batch by batch."""

    def __init__(self, view: TransformerView, senders: Sequence[str]) -> None:
        self._view, self._senders = view, tuple(senders)
        self._sums = torch.zeros(2, len(self._senders), dtype=torch.float64)
        self._n_prompts = 0

    def add(self, batch: PromptSet, clean: Record, corrupt: Record) -> None:
        """Counts a batch; prompts without right answers have no direct effects and count nothing."""
        if not batch.answers.shape[1]:
            return
        for row, record in enumerate((clean, corrupt)):
            self._sums[row] += _sender_effects(self._view, record, batch, self._senders).double().sum(0).cpu()
        self._n_prompts += len(batch)

    def found(self) -> dict[str, DirectEffect]:
        """Means over all prompts by node; empty where no prompt had right answers."""
        if not self._n_prompts:
            return {}
        clean, corrupt = (self._sums / self._n_prompts).tolist()
        return {
            name: DirectEffect(clean=clean[i], corrupt=corrupt[i], n_prompts=self._n_prompts)
            for i, name in enumerate(self._senders)
        }


def _sender_effects(
    view: TransformerView, record: Record, prompts: PromptSet, senders: Sequence[str]
) -> Float[Tensor, "batch senders"]:
    """What senders write to the answers directly, at the position read.

    `record` is that of a run on the prompts, clean or corrupt, with `final`; the prompts have right answers.

    Returns:
        Logits, before a soft cap: mean of the right answers less mean of the wrong ones, or less the mean of all
        logits. Over all senders they add up to that difference itself, up to biases (attention's output biases, those
        of the final norm and of the unembedding).
    """
    direction = _answer_direction(view, record, prompts)
    writes = (_write_at(view, record, name, prompts.read_at) for name in senders)
    return torch.stack([(write.to(direction.dtype) * direction).sum(-1) for write in writes], 1)


def _answer_direction(view: TransformerView, record: Record, prompts: PromptSet) -> Float[Tensor, "batch d_model"]:
    """The direction in the final residual stream that stands for the answers, with the final norm's scale of this run.

    Float32 at least. The dot product of the final residual stream with it is the logit difference, up to biases.
    """
    weight = view.unembed_weight
    right = _mean_rows(weight, prompts.answers)
    if prompts.wrong_answers.shape[1]:
        other = _mean_rows(weight, prompts.wrong_answers)
    else:
        other = weight.mean(0, dtype=right.dtype).expand_as(right)
    direction = (right - other) * view.logit_scale
    assert record.final is not None, "every finished run has it"
    _, scale = view.final_norm.standardize(read_positions(record.final, prompts.read_at))
    view.final_norm.to_standardized(direction)
    return direction * scale


def _write_at(
    view: TransformerView, record: Record, name: str, read_at: Int[Tensor, "batch"]
) -> Float[Tensor, "batch d_model"]:
    """What a sender writes at one position of each prompt."""
    graph, index = view.graph, view.graph.sender_index(name)
    if index == graph.INPUT:
        return read_positions(record.embed, read_at)
    layer = int(name[1:].split(".")[0])
    if name.startswith("m"):
        return read_positions(record.of(graph, "mlp", layer).values[0], read_at)
    head = index - graph.heads(layer).start
    z = record.of(graph, "attention", layer).values[head]
    return read_positions(z, read_at) @ view.layers[layer].effective_w_o[head]


def _mean_rows(weight: Float[Tensor, "d_vocab d_model"], ids: Int[Tensor, "batch n"]) -> Float[Tensor, "batch d_model"]:
    """Mean of the unembedding's rows of each prompt's answers, float32 at least."""
    given = (ids != NO_ANSWER).unsqueeze(-1)
    rows = weight[ids.clamp(min=0)]
    wide = rows if rows.dtype == torch.float64 else rows.float()
    return (wide * given).sum(1) / given.sum(1)
