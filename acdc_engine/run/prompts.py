"""The prompts of a run: from a task, a model and the settings."""

from pathlib import Path
from typing import Any

from acdc_engine.errors import ModelError
from acdc_engine.model.load_tokenizer import load_tokenizer
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.bos import settled
from acdc_engine.prompts.build import Splits, split_prompts
from acdc_engine.prompts.card import TaskCard
from acdc_engine.prompts.check import Rules
from acdc_engine.prompts.misfits import Limits
from acdc_engine.run.settings import Settings


def look_before_loading(card: TaskCard, model: Any, settings: Settings) -> None:
    """Makes the prompts with the model's tokenizer alone, so that what is wrong with them is found out at once.

    Nothing is done for a model that is loaded already, or whose tokenizer cannot be had by itself.

    Raises:
        PromptError: As `split_prompts`.
    """
    if not isinstance(model, str | Path):
        return
    try:
        tokenizer = load_tokenizer(model)
    except ModelError:  # loading the model says why
        return
    _split(settled(card, tokenizer, settings.prepend_bos), tokenizer, settings, None)


def prompts_of(card: TaskCard, view: TransformerView, settings: Settings) -> tuple[TaskCard, Splits]:
    """Makes the prompts of a run.

    Returns:
        The card with its beginning-of-sequence setting decided, and its prompts.

    Raises:
        ModelError: The model has no tokenizer.
        PromptError: As `split_prompts`.
    """
    tokenizer = tokenizer_of(view)
    card = settled(card, tokenizer, settings.prepend_bos)
    return card, _split(card, tokenizer, settings, limits_of(view))


def tokenizer_of(view: TransformerView) -> Any:
    """The model's tokenizer.

    Raises:
        ModelError: It has none.
    """
    if view.tokenizer is None:
        raise ModelError(
            f"Model {view.name!r} came without a tokenizer, which task cards need. Load it with "
            "load_model(hf_model, tokenizer=...) and pass the view as model."
        )
    return view.tokenizer


def rules_of(card: TaskCard, view: TransformerView) -> Rules:
    """What the pairs of a card, with its beginning-of-sequence setting decided, are checked against."""
    return Rules(tokenizer_of(view), card.name, bool(card.prepend_bos), limits_of(view))


def limits_of(view: TransformerView) -> Limits:
    """What prompts the model takes."""
    return Limits(view.max_positions, view.d_vocab_in, view.d_vocab)


def _split(card: TaskCard, tokenizer: Any, settings: Settings, limits: Limits | None) -> Splits:
    return split_prompts(
        card,
        tokenizer,
        settings.n,
        settings.n_held_out,
        settings.seed,
        drop_misfits=settings.drop_misfits,
        limits=limits,
    )
