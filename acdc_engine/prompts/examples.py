"""Pairs of a task as a model's tokenizer splits them, for looking at."""

from collections.abc import Sequence
from dataclasses import dataclass

from acdc_engine.prompts.bos import settled
from acdc_engine.prompts.card import TaskCard
from acdc_engine.prompts.check import Rules, encode
from acdc_engine.prompts.prompt_set import NO_ANSWER
from acdc_engine.prompts.sample import some_of_each_template
from acdc_engine.prompts.tokenizer import Tokenizer, one_token


@dataclass(frozen=True)
class Example:
    """One pair, token by token.

    Attributes:
        template: Name of its template.
        clean: Texts of the clean prompt's tokens, the beginning-of-sequence token included.
        corrupt: Of the corrupt prompt's, as many.
        read_at: Index of the position whose logits are read.
        answers: Texts of the right answers' tokens.
        wrong_answers: Of the wrong ones.
    """

    template: str
    clean: tuple[str, ...]
    corrupt: tuple[str, ...]
    read_at: int
    answers: tuple[str, ...]
    wrong_answers: tuple[str, ...]


def examples(card: TaskCard, tokenizer: Tokenizer, n: int, seed: int) -> list[Example]:
    """Makes up to `n` pairs of every template; they pass the checks that any prompts pass.

    Args:
        card: The task.
        tokenizer: The model's.
        n: Pairs per template.
        seed: The same seed gives the same pairs.

    Raises:
        PromptError: The task does not fit the tokenizer.
    """
    drafts = [draft for pairs in some_of_each_template(card, tokenizer, n, seed).values() for draft in pairs]
    prompts = encode(drafts, Rules(tokenizer, card.name, bool(settled(card, tokenizer).prepend_bos)))

    def texts(ids: Sequence[int]) -> tuple[str, ...]:
        return tuple(one_token(tokenizer, token) for token in ids if token != NO_ANSWER)

    return [
        Example(
            template=draft.pair.template,
            clean=texts(prompts.clean[row, : int(prompts.lengths[row])].tolist()),
            corrupt=texts(prompts.corrupt[row, : int(prompts.lengths[row])].tolist()),
            read_at=int(prompts.read_at[row]),
            answers=texts(prompts.answers[row].tolist()),
            wrong_answers=texts(prompts.wrong_answers[row].tolist()),
        )
        for row, draft in enumerate(drafts)
    ]
