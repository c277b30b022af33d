"""A card's word lists as a given tokenizer sees them: which words are one token, and which must be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from acdc_engine.errors import PromptError
from acdc_engine.prompts.card import TaskCard
from acdc_engine.prompts.template import Template
from acdc_engine.prompts.tokenizer import Tokenizer, continuation, show_tokens, token_ids


@dataclass(frozen=True)
class UsableWords:
    """The words prompts can be made of.

    Attributes:
        words: The words of each list, in the card's order.
        left_out: The words left out of each list that has `only_single_token`, with their tokens.
    """

    words: Mapping[str, tuple[str, ...]]
    left_out: Mapping[str, Mapping[str, str]]


def usable_words(card: TaskCard, tokenizer: Tokenizer) -> UsableWords:
    """Finds the words that can be used with this tokenizer.

    A word must be one token where a slot is replaced by another or is part of an answer: there clean and
    corrupt prompts would fall out of step, or the answer could not be read off one position. Elsewhere any
    word will do.

    Args:
        card: A card with templates.
        tokenizer: The model's tokenizer.

    Returns:
        The words, and what `only_single_token` left out.

    Raises:
        PromptError: Words that are split where they must not be, all of them listed with their tokens; or a
            list of which `only_single_token` leaves too few.
    """
    words: dict[str, tuple[str, ...]] = {}
    left_out: dict[str, dict[str, str]] = {}
    problems: list[str] = []
    for name, listed in card.words.items():
        contexts = _contexts(card, name, everywhere=listed.only_single_token)
        split = {w: tokens for w in listed.words if (tokens := _split(tokenizer, w, contexts))}
        if listed.only_single_token:
            words[name], left_out[name] = tuple(w for w in listed.words if w not in split), split
            needed = _words_needed(card, name)
            if len(words[name]) < needed:
                problems.append(
                    f"words.{name}: only {len(words[name])} of its {len(listed.words)} words are a single "
                    f"token and at least {needed} are needed: add words to it."
                )
        else:
            words[name] = listed.words
            problems += [f"words.{name}: {word!r} is not a single token: {split[word]}" for word in split]
    if problems:
        raise PromptError(_message(card, problems))
    return UsableWords(words, left_out)


def _message(card: TaskCard, problems: list[str]) -> str:
    return "\n".join(
        [
            f"The word lists of task {card.name!r} do not fit this tokenizer:",
            *(f"  {problem}" for problem in problems),
            "Words in slots that differ between clean and corrupt, or that are part of an answer, must be "
            "one token. Take such words out, or set only_single_token = true for the list to leave them out.",
        ]
    )


def _contexts(card: TaskCard, name: str, everywhere: bool) -> set[str]:
    """The characters in front of the slots where a list's words must be one token ('' at a text's start)."""
    found: set[str] = set()
    for pattern in (text.parse() for text in card.templates):
        must = {slot for pair in pattern.replaced for slot in pair}
        must |= {slot for answer in (*pattern.answers, *pattern.wrong_answers) for slot in answer.slots}
        for template in (pattern.clean, pattern.corrupt, *pattern.answers, *pattern.wrong_answers):
            for slot, before in _slots_with_context(template):
                if card.slots[slot] == name and (everywhere or slot in must):
                    found.add(before)
    return found


def _slots_with_context(template: Template) -> Iterator[tuple[str, str]]:
    for slot, text in zip(template.slots, template.texts, strict=False):
        yield slot, text[-1:]


def _split(tokenizer: Tokenizer, word: str, contexts: set[str]) -> str:
    """The word's tokens where it is not one token in one of the contexts; '' if it always is."""
    for before in sorted(contexts):
        # After a space the tokenizer sees a word that follows another; the space is part of the word's token.
        head, text = ("the", f" {word}") if before == " " else (before, word)
        added = continuation(tokenizer, head, text)
        if added is None or len(added) != 1:
            return show_tokens(tokenizer, added or token_ids(tokenizer, head + text))
    return ""


def _words_needed(card: TaskCard, name: str) -> int:
    groups = [sum(card.slots[slot] == name for slot in group) for group in card.distinct]
    return max([1, *groups])
