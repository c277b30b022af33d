"""What nodes write to the answer directly: definitions and limits are in docs/roles.md.

nostalgebraist 2020 (logit lens); Elhage et al. 2021, *A Mathematical Framework for Transformer Circuits*.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from acdc_engine.graph.nodes import layer_of
from acdc_engine.model.layers import read_positions
from acdc_engine.model.twins import Record
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.prompt_set import NO_ANSWER, PromptSet


def sender_effects(
    view: TransformerView, record: Record, prompts: PromptSet, senders: Sequence[str]
) -> Float[Tensor, "batch senders"]:
    """What senders write to the answers directly, at the position read.

    `record` is that of a run on the prompts, clean or corrupt, with `final`; the prompts have right answers.

    Returns:
        Logits, before a soft cap: mean of the right answers less mean of the wrong ones, or less the mean of all
        logits. Over all senders they add up to that difference itself, up to biases (attention's output biases, those
        of the final norm and of the unembedding).
    """
    direction = answer_direction(view, record, prompts)
    writes = (_write_at(view, record, name, prompts.read_at) for name in senders)
    return torch.stack([(write.to(direction.dtype) * direction).sum(-1) for write in writes], 1)


def answer_direction(view: TransformerView, record: Record, prompts: PromptSet) -> Float[Tensor, "batch d_model"]:
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
    if name == "input":
        return read_positions(record.embed, read_at)
    if name.startswith("m"):
        return read_positions(record.of(view.graph, "mlp", layer_of(name)).values[0], read_at)
    layer, head = place_of(view, name)
    z = record.of(view.graph, "attention", layer).values[head]
    return read_positions(z, read_at) @ view.at_hand(layer).effective_w_o[head]


def _mean_rows(weight: Float[Tensor, "d_vocab d_model"], ids: Int[Tensor, "batch n"]) -> Float[Tensor, "batch d_model"]:
    """Mean of the unembedding's rows of each prompt's answers, float32 at least."""
    given = (ids != NO_ANSWER).unsqueeze(-1)
    rows = weight[ids.clamp(min=0)]
    wide = rows if rows.dtype == torch.float64 else rows.float()
    return (wide * given).sum(1) / given.sum(1)


def place_of(view: TransformerView, name: str) -> tuple[int, int]:
    """Layer and number of a head by its name."""
    layer = layer_of(name)
    return layer, view.graph.sender_index(name) - view.graph.heads(layer).start
