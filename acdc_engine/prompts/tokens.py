"""What the engine asks of a tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that is used; any object with it will do."""

    @property
    def bos_token_id(self) -> int | None:
        """Id of the beginning-of-sequence token, if there is one."""

    def __call__(self, text: str, *, add_special_tokens: bool) -> Any:
        """Returns a mapping whose `input_ids` is the list of token ids of `text`."""

    def decode(self, token_ids: list[int]) -> str:
        """Returns the text of the tokens."""

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        """Returns the vocabulary's own spelling of the tokens."""


def of_answers(tokenizer: Any) -> Any:
    """Returns the tokenizer of a model's answers, for models that answer in words of their own; else the same one."""
    return getattr(tokenizer, "answers", tokenizer)


def token_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Returns the token ids of `text`, without any special token added."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def text_ids(tokenizer: Any, text: str) -> list[int]:
    """Returns the token ids of a text by itself: behind a beginning-of-sequence token where `adds_bos` says so."""
    return [*([tokenizer.bos_token_id] if adds_bos(tokenizer) else []), *token_ids(tokenizer, text)]


def continuation(tokenizer: Tokenizer, before: str, text: str) -> list[int] | None:
    """Returns the tokens `text` adds when it follows `before`, or None if it changes how `before` itself is split.

    Tokenizing `text` alone would not do: some tokenizers put a space in front of every text, others join the
    last letters of `before` with the first of `text`.
    """
    head, whole = token_ids(tokenizer, before), token_ids(tokenizer, before + text)
    return whole[len(head) :] if whole[: len(head)] == head else None


def token_ranges(
    tokenizer: Tokenizer,
    text: str,
    ranges: Sequence[tuple[int, int]],
    ids: list[int],
    *,
    blanks: str | None = None,
) -> list[tuple[int, int]]:
    """The positions (start, end) of the tokens in which character ranges lie, by what beginnings of a text split into.

    Args:
        tokenizer: The tokenizer.
        text: The text.
        ranges: Ranges of characters (start, end).
        ids: The tokens of the whole text.
        blanks: Characters in front of a range that count, too; None for all white space.
    """
    found = []
    for start, end in ranges:
        before = _common_start(token_ids(tokenizer, text[:start].rstrip(blanks)), ids)
        through = token_ids(tokenizer, text[:end])
        common = _common_start(through, ids)
        # A word joined with what follows it ends inside the next token.
        found.append((before, common if common == len(through) else common + 1))
    return found


def _common_start(a: list[int], b: list[int]) -> int:
    same = (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return next(same, min(len(a), len(b)))


def is_one_token(tokenizer: Tokenizer, before: str, text: str) -> bool:
    """Whether `text` is one token where it follows `before`."""
    added = continuation(tokenizer, before, text)
    return added is not None and len(added) == 1


def token_text(tokenizer: Tokenizer, token: int) -> str | None:
    """Returns the text of one token, or None if the vocabulary has no token of that id."""
    try:
        known = tokenizer.convert_ids_to_tokens([token])[0] is not None
    except (IndexError, KeyError, OverflowError):  # what tokenizers raise for an id they do not have
        return None
    return tokenizer.decode([token]) if known else None


def show_tokens(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Returns the tokens as a readable line: `'When' ' Mary' ' and'`."""
    return " ".join(repr(one_token(tokenizer, i)) for i in ids)


def one_token(tokenizer: Tokenizer, token: int) -> str:
    """A token as text."""
    text = tokenizer.decode([token])
    # A token can be part of a character; the vocabulary's spelling then says more than the replacement sign.
    return tokenizer.convert_ids_to_tokens([token])[0] if "\ufffd" in text else text


def adds_bos(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer puts the token in front of texts by itself, as Gemma's and Llama's do and GPT-2's does not.

    Models are trained on what their tokenizer does; some fail at everything without it.
    """
    bos = tokenizer.bos_token_id
    return bos is not None and list(tokenizer("", add_special_tokens=True)["input_ids"])[:1] == [bos]
