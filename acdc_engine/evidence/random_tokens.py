"""Random tokens repeated once: text without meaning in which the only thing to predict is the repetition."""

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.prompt_set import PromptSet

SEQUENCES = 16
SHORTEST, LONGEST = 8, 25
"""Random tokens before they are repeated: as many as make the sequence as long as the task's longest prompt, between
these. Some heads that look for repetitions see only so far."""


def repeated_tokens(view: TransformerView, like: PromptSet, seed: int) -> Int[Tensor, "sequences pos"] | None:
    """Sequences `[BOS] s s` with `s` different random tokens, BOS where the task's prompts have one.

    Args:
        view: The model.
        like: The task's prompts: how long the sequences are, and whether they begin with BOS.
        seed: Of the tokens.

    Returns:
        None where the model has too few positions or too few tokens (compiled models).
    """
    bos = _bos(view.tokenizer, like)
    front = [] if bos is None else [bos]
    tokens = _drawable(view, front)
    length = min(LONGEST, max(SHORTEST, int(like.lengths.max()) // 2))
    if view.max_positions is not None:
        length = min(length, (view.max_positions - len(front)) // 2)
    if length < SHORTEST or len(tokens) < 2 * length:
        return None
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(SEQUENCES):
        drawn = tokens[torch.randperm(len(tokens), generator=generator)[:length]]
        rows.append(torch.cat([torch.tensor(front, dtype=torch.long), drawn, drawn]))
    return torch.stack(rows).to(view.device)


def _bos(tokenizer: Any, prompts: PromptSet) -> int | None:
    """The token that begins every prompt, if it is the tokenizer's beginning-of-sequence token."""
    bos = getattr(tokenizer, "bos_token_id", None)
    return bos if bos is not None and bool((prompts.clean[:, 0] == bos).all()) else None


def _drawable(view: TransformerView, front: list[int]) -> Int[Tensor, "tokens"]:
    """Tokens that stand for text: no special ones, none that only fill the embedding up."""
    known = len(view.tokenizer) if hasattr(view.tokenizer, "__len__") else view.d_vocab_in
    special = {*front, *getattr(view.tokenizer, "all_special_ids", ())}
    return torch.tensor([i for i in range(min(known, view.d_vocab_in)) if i not in special], dtype=torch.long)
