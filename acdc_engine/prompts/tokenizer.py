"""What the engine asks of a tokenizer, and the questions it puts to one."""

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


class Remembered:
    """A tokenizer that has split texts beforehand, all at once where that is faster, and splits none twice."""

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[str] = ()) -> None:
        """Splits the texts if the tokenizer is one of Hugging Face's fast ones, which take lists."""
        self._tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}
        different = list(dict.fromkeys(texts))
        if different and getattr(tokenizer, "is_fast", False):
            split: Any = tokenizer
            found = split(different, add_special_tokens=False, return_attention_mask=False)["input_ids"]
            self._known = dict(zip(different, found, strict=True))

    @property
    def bos_token_id(self) -> int | None:
        """As the tokenizer's."""
        return self._tokenizer.bos_token_id

    @property
    def answers(self) -> Any:
        """The tokenizer of answers, where it is another."""
        own = of_answers(self._tokenizer)
        return self if own is self._tokenizer else own

    def __call__(self, text: str, *, add_special_tokens: bool) -> Any:
        """As the tokenizer's."""
        if add_special_tokens:
            return self._tokenizer(text, add_special_tokens=True)
        if text not in self._known:
            self._known[text] = list(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        return {"input_ids": self._known[text]}

    def decode(self, token_ids: list[int]) -> str:
        """As the tokenizer's."""
        return self._tokenizer.decode(token_ids)

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        """As the tokenizer's."""
        return self._tokenizer.convert_ids_to_tokens(ids)


def token_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Returns the token ids of `text`, without any special token added."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def continuation(tokenizer: Tokenizer, before: str, text: str) -> list[int] | None:
    """Returns the tokens `text` adds when it follows `before`.

    Tokenizing `text` alone would not do: some tokenizers put a space in front of every text, others join the
    last letters of `before` with the first of `text`.

    Returns:
        The added token ids, or None if `text` changes how `before` itself is split.
    """
    head, whole = token_ids(tokenizer, before), token_ids(tokenizer, before + text)
    return whole[len(head) :] if whole[: len(head)] == head else None


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
