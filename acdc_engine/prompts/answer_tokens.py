"""Answers as tokens: what follows the clean prompt up to and including the position that is read."""

from __future__ import annotations

from acdc_engine.prompts.misfits import Problem
from acdc_engine.prompts.tokenizer import Tokenizer, of_answers, show_tokens, token_ids, token_text


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
        """Prepares for one prompt.

        Args:
            tokenizer: The model's tokenizer.
            prompt: The clean prompt.
            ids: Its tokens.
            at: Position that is read, from 0.
        """
        self.problems: list[Problem] = []
        self._tokenizer, self._own = tokenizer, of_answers(tokenizer)
        self._inside = at < len(ids) - 1
        self._before = tokenizer.decode(ids[: at + 1]) if self._inside else prompt
        self._head = token_ids(tokenizer, self._before) if self._inside else ids
        self._alone = self._head != ids[: at + 1]

    def read(self, texts: tuple[str, ...], ids: tuple[int, ...]) -> tuple[list[int], tuple[str, ...]]:
        """Returns the answers as tokens and as texts, without those that are not one token.

        Args:
            texts: The answers.
            ids: The answers as token ids, where they are given so. They count before the texts, if they name the same
                words: files with both often write texts without the space in front.
        """
        if ids:
            self.problems += self._of_another_tokenizer(texts, ids)
            known = {token: text for token in ids if (text := token_text(self._own, token)) is not None}
            self.problems += [
                Problem("an answer is no token of the tokenizer", f"the tokenizer has no token {token}")
                for token in ids
                if token not in known
            ]
            return [token for token in ids if token in known], tuple(known[token] for token in ids if token in known)
        tokens = []
        for text in texts:
            added = self._added(text)
            if added is None or len(added) != 1:
                self.problems.append(self._not_one_token(text, added))
            tokens += (added or [])[:1]
        return tokens, texts

    def _of_another_tokenizer(self, texts: tuple[str, ...], ids: tuple[int, ...]) -> list[Problem]:
        here = [token_text(self._own, token) for token in ids]
        words = [text.strip() for text in texts]
        if not texts or all(text is not None and text.strip() in words for text in here):
            return []
        shown = ", ".join(f"{token} is {text!r}" for token, text in zip(ids, here, strict=True) if text is not None)
        text = (
            f"the answer ids and the answers {', '.join(map(repr, texts))} name different words ({shown or 'no token'} "
            "here): the ids are another tokenizer's. Take their column out, and write the answers as they follow the "
            "prompt, with the space in front"
        )
        return [Problem("answer ids of another tokenizer", text)]

    def _added(self, text: str) -> list[int] | None:
        """The tokens the answer adds, or None if it changes how the prompt before it is split."""
        if self._own is not self._tokenizer:
            return token_ids(self._own, text)
        if not self._alone:
            whole = token_ids(self._tokenizer, self._before + text)
            if whole[: len(self._head)] == self._head:
                return whole[len(self._head) :]
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
