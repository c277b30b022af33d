"""What the engine asks of a tokenizer, answers as tokens, and what can be wrong with a pair under one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable


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


def continuation(tokenizer: Tokenizer, before: str, text: str) -> list[int] | None:
    """Returns the tokens `text` adds when it follows `before`, or None if it changes how `before` itself is split.

    Tokenizing `text` alone would not do: some tokenizers put a space in front of every text, others join the
    last letters of `before` with the first of `text`.
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


def adds_bos(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer puts the token in front of texts by itself, as Gemma's and Llama's do and GPT-2's does not.

    Models are trained on what their tokenizer does; some fail at everything without it.
    """
    bos = tokenizer.bos_token_id
    return bos is not None and list(tokenizer("", add_special_tokens=True)["input_ids"])[:1] == [bos]


class Problem(NamedTuple):
    """What is wrong with a pair under a tokenizer: the rule that is broken, and the same with the values found."""

    kind: str
    text: str


@dataclass(frozen=True)
class Limits:
    """What a model takes.

    Attributes:
        positions: Tokens of its longest prompt; None where it does not say.
        embedded: Token ids that its embedding has.
        logits: Token ids that it gives a logit.
    """

    positions: int | None
    embedded: int
    logits: int


@dataclass(frozen=True)
class LeftOut:
    """How many pairs, of those looked at, do not fit and are left out, as the user asked.

    Each counts under the kind of its first problem.
    """

    count: int
    of: int
    reasons: dict[str, int]

    @staticmethod
    def from_problems(problems: Iterable[list[Problem]]) -> LeftOut | None:
        """Counts pairs by their lists of problems; None if none has any."""
        listed = list(problems)
        reasons = Counter(found[0].kind for found in listed if found)
        return LeftOut(reasons.total(), len(listed), dict(reasons.most_common())) if reasons else None

    def __str__(self) -> str:
        """As a sentence."""
        why = "; ".join(f"{kind} ({count})" for kind, count in self.reasons.items())
        return f"{self.count} of the {self.of} pairs do not fit the model and are left out: {why}."


class AnswerReader:
    """Finds the tokens of a prompt's answers, and collects what is wrong with them.

    At a prompt's end an answer is the token that its text adds to the prompt; tokenizing it alone would not do
    (see `continuation`). Inside the prompt it is what the text adds to the tokens up to there; where they are not what
    their own text is split into, or the answer changes how they are split, the answer is tokenized alone. So are all
    answers of models that answer in words of their own.

    Attributes:
        problems: One for each answer that is not one token, or that the file says twice and differently.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: str, ids: list[int], at: int) -> None:
        """Prepares for one clean prompt, its tokens and the position that is read, from 0."""
        self.problems: list[Problem] = []
        self._tokenizer, self._own = tokenizer, of_answers(tokenizer)
        self._inside = at < len(ids) - 1
        self._before = tokenizer.decode(ids[: at + 1]) if self._inside else prompt
        self._alone = self._inside and token_ids(tokenizer, self._before) != ids[: at + 1]

    def read(self, texts: tuple[str, ...], ids: tuple[int, ...]) -> tuple[list[int], tuple[str, ...]]:
        """Returns the answers as tokens and as texts, without those that are not one token.

        Where ids are given they count before the texts, if they name the same words: files with both often write texts
        without the space in front.
        """
        if ids:
            return self._read_ids(texts, ids)
        tokens = []
        for text in texts:
            added = self._added(text)
            if added is None or len(added) != 1:
                self.problems.append(self._not_one_token(text, added))
            tokens += (added or [])[:1]
        return tokens, texts

    def _read_ids(self, texts: tuple[str, ...], ids: tuple[int, ...]) -> tuple[list[int], tuple[str, ...]]:
        known = {token: text for token in ids if (text := token_text(self._own, token)) is not None}
        words = [text.strip() for text in texts]
        if texts and not all(token in known and known[token].strip() in words for token in ids):
            shown = ", ".join(f"{token} is {known[token]!r}" for token in ids if token in known) or "no token"
            text = (
                f"the answer ids and the answers {', '.join(map(repr, texts))} name different words ({shown} here): "
                "the ids are another tokenizer's. Take their column out, and write the answers as they follow the "
                "prompt, with the space in front"
            )
            self.problems.append(Problem("answer ids of another tokenizer", text))
        for token in ids:
            if token not in known:
                text = f"the tokenizer has no token {token}"
                self.problems.append(Problem("an answer is no token of the tokenizer", text))
        found = [token for token in ids if token in known]
        return found, tuple(known[token] for token in found)

    def _added(self, text: str) -> list[int] | None:
        """The tokens the answer adds, or None if it changes how the prompt before it is split."""
        if self._own is not self._tokenizer:
            return token_ids(self._own, text)
        if not self._alone and (added := continuation(self._tokenizer, self._before, text)) is not None:
            return added
        return token_ids(self._tokenizer, text) if self._inside else None

    def _not_one_token(self, answer: str, ids: list[int] | None) -> Problem:
        if ids is None:
            ask = "is a space in front missing?"
            if self._before.endswith(" "):
                ask = "the prompt ends in a space, with which the answer is to begin instead"
            text = f"the answer {answer!r} changes how the prompt before it is split: {ask}"
        else:
            text = f"the answer {answer!r} is not one token: {show_tokens(self._own, ids) or 'nothing'}"
        return Problem("an answer is not one token", text)
