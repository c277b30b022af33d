"""Example prompts in the report: clean beside corrupt, and what the model and the circuit say next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Example, NextToken
from acdc_engine.show.visible import visible_token

MOST = 4
"""Examples shown."""
MOST_TOKENS = 240
"""Tokens shown of a prompt: the first and the last ones."""


@dataclass(frozen=True)
class Token:
    """A token as it is shown; `mark` is a class of the style sheet: differs, read, gap, or nothing."""

    text: str
    mark: str


@dataclass(frozen=True)
class Likely:
    """A next token and its probability."""

    text: str
    percent: str
    width: float
    right: bool
    wrong: bool


@dataclass(frozen=True)
class Shown:
    """One pair of prompts."""

    clean: list[Token]
    corrupt: list[Token]
    answers: list[str]
    wrong_answers: list[str]
    next_clean: list[Likely]
    next_corrupt: list[Likely]
    next_circuit: list[Likely]


def example_parts(circuit: Circuit) -> list[Shown]:
    """The first examples of a circuit file; tokens with visible spaces, escapes for what cannot be printed."""
    return [_shown(example) for example in circuit.examples[:MOST]]


def _shown(example: Example) -> Shown:
    pairs = list(zip_longest(example.clean, example.corrupt))
    differs = [clean != corrupt for clean, corrupt in pairs]
    return Shown(
        clean=_tokens(example.clean, differs, example.read_at),
        corrupt=_tokens(example.corrupt, differs, example.read_at),
        answers=[visible_token(text) for text in example.answers],
        wrong_answers=[visible_token(text) for text in example.wrong_answers],
        next_clean=_likely(example, example.next_clean),
        next_corrupt=_likely(example, example.next_corrupt),
        next_circuit=_likely(example, example.next_circuit),
    )


def _tokens(texts: Sequence[str], differs: Sequence[bool], read_at: int) -> list[Token]:
    found = []
    for place, text in enumerate(texts):
        marks = ("differs" if differs[place] else "", "read" if place == read_at else "")
        found.append(Token(visible_token(text), " ".join(mark for mark in marks if mark)))
    if len(found) <= MOST_TOKENS:
        return found
    half = MOST_TOKENS // 2
    return [*found[:half], Token(f"{len(found) - 2 * half:,} more", "gap"), *found[-half:]]


def _likely(example: Example, tokens: Sequence[NextToken]) -> list[Likely]:
    return [
        Likely(
            text=visible_token(token.text),
            percent=f"{token.probability:.1%}",
            width=round(100 * token.probability, 1),
            right=token.text in example.answers,
            wrong=token.text in example.wrong_answers,
        )
        for token in tokens
    ]
