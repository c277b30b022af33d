"""Whether prompts begin with the tokenizer's beginning-of-sequence token."""

from __future__ import annotations

from acdc_engine.prompts.card import TaskCard
from acdc_engine.prompts.tokenizer import Tokenizer


def settled(card: TaskCard, tokenizer: Tokenizer, asked: bool | None = None) -> TaskCard:
    """Returns the card with `prepend_bos` decided: by what is asked for, else by the card, else by the tokenizer.

    Args:
        card: The task.
        tokenizer: The model's.
        asked: What the user says; None for nothing.
    """
    chosen = card.prepend_bos if asked is None else asked
    return card.model_copy(update={"prepend_bos": adds_bos(tokenizer) if chosen is None else chosen})


def as_hashed(card: TaskCard, card_hash: str) -> TaskCard | None:
    """Returns the card with the beginning-of-sequence setting that gives a hash: a run decides what a card leaves open.

    Args:
        card: As it is today.
        card_hash: Of the card of a run.
    """
    cards = (card.model_copy(update={"prepend_bos": setting}) for setting in (card.prepend_bos, False, True))
    return next((variant for variant in cards if variant.fingerprint() == card_hash), None)


def adds_bos(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer puts the token in front of texts by itself, as Gemma's and Llama's do and GPT-2's does not.

    Models are trained on what their tokenizer does; some fail at everything without it.
    """
    bos = tokenizer.bos_token_id
    return bos is not None and list(tokenizer("", add_special_tokens=True)["input_ids"])[:1] == [bos]
