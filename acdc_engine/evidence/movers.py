"""What heads move, and which heads turn those that move the answer: definitions and limits are in docs/roles.md.

Wang et al. 2022, arXiv 2211.00593, sections 3.1 and 3.2; McDougall et al. 2023, arXiv 2310.04625.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from statistics import fmean

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc_engine.graph.records import RoleName
from acdc_engine.model.twins import Record
from acdc_engine.model.view import TransformerView
from acdc_engine.patch.ablations import recorded
from acdc_engine.prompts.prompt_set import NO_ANSWER, PromptSet

TO_A_PLACE: tuple[RoleName, RoleName] = ("name mover", "negative name mover")
"""What a head writes at a place, not how it finds it: an induction head that writes the answer is an induction head."""
ANYWHERE: tuple[RoleName, RoleName] = ("copying", "copy suppression")
"""What a head would write wherever it looked: a head with a role of its own is not called by them."""
_AMONG = 5
"""A head copies a token if it is among so many with the largest logits of what the head moves from it."""
_BLOCK_NUMBERS = 2**24
"""Logits held at once."""

Head = tuple[int, int]
"""Layer and number."""
Heads = Mapping[int, Sequence[int]]
"""Layers, and which heads of each."""
TokensOf = Mapping[int | None, Bool[Tensor, "batch queries"]]
"""The tokens of each span that heads are asked about; None: all tokens, for prompts without spans."""
Changes = Mapping[int, Float[Tensor, "batch heads d_head"]]
"""Heads' outputs at the position read, clean less corrupt, by layer."""


def answer_positions(
    prompts: PromptSet, causal: bool, same_words: bool = True
) -> tuple[Bool[Tensor, "batch pos"], Bool[Tensor, "batch pos"]]:
    """Where clean prompts hold a right answer, and a wrong one, as far as the position read can look.

    Nowhere where answers are not words of the prompts (`same_words`).
    """
    place = torch.arange(prompts.clean.shape[1], device=prompts.device)
    last = prompts.read_at + 1 if causal else prompts.lengths
    seen = (place < last[:, None]) & same_words

    def holds(ids: Tensor) -> Tensor:
        same = (prompts.clean[:, :, None] == ids[:, None, :]) & (ids != NO_ANSWER)[:, None, :]
        return same.any(-1) & seen

    return holds(prompts.answers), holds(prompts.wrong_answers)


def moves(
    view: TransformerView,
    layer: int,
    heads: Sequence[int],
    patterns: Float[Tensor, "batch heads queries pos"],
    batch: PromptSet,
    clean: Record,
    right: Bool[Tensor, "batch pos"],
    tokens_of: TokensOf,
) -> Iterator[tuple[RoleName, int | None, Float[Tensor, "heads"], int]]:
    """What a layer's heads move from the positions of right answers to the position read, or to a span's tokens.

    Yields:
        A role, the span (None: wherever), each head's sum, and what it is a sum over.
    """
    row, position = right.nonzero(as_tuple=True)
    if not len(row):
        return
    tokens = batch.clean[row, position]
    values = clean.of(view.graph, "attention", layer).inputs[2][row, position]
    # Together, so that the unembedding is gone through once per layer.
    writes = torch.cat([moved(view, layer, head, values) for head in heads])
    copies, falls = (which.view(len(heads), -1) for which in copied(view, writes, tokens.repeat(len(heads))))
    for role, total in zip(ANYWHERE, (copies.sum(1), falls.sum(1)), strict=True):
        yield role, None, total, len(row)
    for span, there in tokens_of.items():
        if span is None:
            there = torch.arange(there.shape[1], device=there.device) == batch.read_at[:, None]
        share = there / there.sum(1, keepdim=True).clamp(min=1)
        looks = torch.einsum("rq,rhq->hr", share[row].to(patterns.dtype), patterns[row, :, :, position]).double()
        count = int((right.any(1) & there.any(1)).sum())
        for role, which in zip(TO_A_PLACE, (copies, falls), strict=True):
            yield role, span, (looks * which).sum(1), count


def moved(
    view: TransformerView, layer: int, head: int, v: Float[Tensor, "rows kv d_head"]
) -> Float[Tensor, "rows d_model"]:
    """What a head would write if it looked at one position only, up to the scale of a norm after attention.

    `v` has the values of all groups at the position, one row per prompt.
    """
    attention = view.layers[layer].attention
    group = head * attention.w_v.shape[0] // attention.w_q.shape[0]
    return v[:, group] @ view.at_hand(layer).effective_w_o[head]


def copied(
    view: TransformerView, writes: Float[Tensor, "rows d_model"], tokens: Int[Tensor, "rows"]
) -> tuple[Bool[Tensor, "rows"], Bool[Tensor, "rows"]]:
    """Whether each token is among the few whose logits a write raises most, or lowers most.

    The few are five, or a twentieth of a small vocabulary (at least one). The write goes through the final norm's gain
    and the unembedding; the norm's scale changes no order. Ties count against: a head that writes nothing copies
    nothing.

    Returns:
        Raised, lowered.
    """
    few = max(1, min(_AMONG, view.d_vocab // 20))
    wide = writes.to(torch.float64 if writes.dtype == torch.float64 else torch.float32, copy=True)
    view.final_norm.to_standardized(wide)
    weight = view.unembed_weight
    view.work.product(len(tokens), view.d_vocab, view.d_model)
    own = (wide * weight[tokens].to(wide.dtype)).sum(-1, keepdim=True)
    above, below = torch.zeros_like(tokens), torch.zeros_like(tokens)
    step = max(1, _BLOCK_NUMBERS // max(1, len(tokens)))
    for start in range(0, len(weight), step):
        logits = wide @ weight[start : start + step].to(wide.dtype).T
        itself = torch.arange(start, start + logits.shape[1], device=tokens.device) == tokens[:, None]
        above += ((logits >= own) & ~itself).sum(1)
        below += ((logits <= own) & ~itself).sum(1)
    return above < few, below < few


def changes_of(view: TransformerView, batch: PromptSet, clean: Record, corrupt: Record, heads: Heads) -> Changes:
    """What is kept of a batch until the movers are known.

    Their keys are not: at all positions of all prompts they can be gigabytes, so the clean run is made again.
    """
    at = torch.arange(len(batch), device=batch.device), batch.read_at
    z = {layer: [run.of(view.graph, "attention", layer).values[:, *at] for run in (clean, corrupt)] for layer in heads}
    return {layer: (ours - theirs).transpose(0, 1) for layer, (ours, theirs) in z.items()}


def inhibition(
    view: TransformerView, heads: Heads, movers: Sequence[Head], changes: Iterable[tuple[PromptSet, Changes]]
) -> dict[Head, float]:
    """How much heads turn movers of later layers to the right answer, through the movers' queries alone.

    Returns:
        Mean over movers, and over prompts with a right and a wrong answer in them, of what the mover's attention on
        right answers less that on wrong ones loses when its query reads the head's corrupt write instead of its clean
        one. Nothing for heads without a later mover, nor for any where no prompt has both answers.
    """
    lost, n_prompts = defaultdict[tuple[Head, Head], float](float), 0
    for batch, change in changes if movers else ():
        right, wrong = answer_positions(batch, view.causal, view.same_words)
        both, lean = right.any(1) & wrong.any(1), right.float() - wrong.float()
        if not both.any():
            continue
        n_prompts += int(both.sum())
        clean, rotations = recorded(view, batch.clean, keep_inputs=True), view.rotations(batch.clean.shape[1])
        at = torch.arange(len(batch), device=batch.device), batch.read_at
        for mover in movers:
            block, rotation = clean.of(view.graph, "attention", mover[0]), rotations[mover[0]]
            assert block.x is not None, "kept in this run"
            residual, q, k = block.x[at], block.inputs[0][at][:, None], block.inputs[1]
            looks = partial(view.at_hand(mover[0]).pattern_row, mover[1], q=q, k=k, rotation=rotation, at=batch.read_at)
            before = (looks(residual) * lean).sum(1)
            for layer in (layer for layer in heads if layer < mover[0]):
                w_o = view.at_hand(layer).effective_w_o
                for head in heads[layer]:
                    after = (looks(residual - change[layer][:, head] @ w_o[head]) * lean).sum(1)
                    lost[(layer, head), mover] += float((before - after)[both].double().sum())
    turning = dict.fromkeys(head for head, _ in lost)
    return {head: fmean(total / n_prompts for (of, _), total in lost.items() if of == head) for head in turning}
