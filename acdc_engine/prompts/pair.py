"""One clean prompt with its corrupt counterpart, as text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PromptPair:
    """A clean prompt, a corrupt prompt of the same length in tokens, and what should and should not follow.

    Attributes:
        clean: The prompt that shows the behaviour.
        corrupt: The prompt that does not.
        answers: Right continuations of the clean prompt, exactly as they follow it (leading space included).
        wrong_answers: Wrong continuations, likewise. May be empty.
        template: Name of the template or pattern the pair comes from.
    """

    clean: str
    corrupt: str
    answers: tuple[str, ...]
    wrong_answers: tuple[str, ...]
    template: str


@dataclass(frozen=True)
class Draft:
    """A pair before it meets a tokenizer: also knows which characters are meant to differ.

    Attributes:
        pair: The texts.
        clean_spans: Character ranges (start, end) of `pair.clean` that may differ from the corrupt prompt.
        corrupt_spans: The same ranges in `pair.corrupt`, in the same order.
    """

    pair: PromptPair
    clean_spans: tuple[tuple[int, int], ...]
    corrupt_spans: tuple[tuple[int, int], ...]
