"""A tokenizer small enough to reason about, a card to vary, and the real tokenizer where there is one."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fake_tokenizer import FakeTokenizer

CARD: dict[str, Any] = {
    "name": "small",
    "description": "A small card.",
    "slots": {"A": "names", "B": "names", "C": "names", "place": "places"},
    "distinct": [["A", "B", "C"]],
    "words": {
        "names": {"words": ["Ann", "Bob", "Cem", "Dora"]},
        "places": {"words": ["park", "Petrovich"]},
    },
    "templates": [
        {
            "name": "ABBA",
            "clean": "At the {place} {A} and {B} met; {B} gave it to",
            "corrupt": "At the {place} {A} and {B} met; {C} gave it to",
            "answers": [" {A}"],
            "wrong_answers": [" {B}"],
        },
        {
            "name": "BABA",
            "clean": "At the {place} {B} and {A} met; {B} gave it to",
            "corrupt": "At the {place} {B} and {A} met; {C} gave it to",
            "answers": [" {A}"],
            "wrong_answers": [" {B}"],
        },
    ],
}


@pytest.fixture(scope="session")
def make_tokenizer() -> type[FakeTokenizer]:
    """The fake tokenizer's class."""
    return FakeTokenizer


@pytest.fixture(scope="session")
def card_data() -> Callable[[], dict[str, Any]]:
    """Gives a fresh copy of a sound card's content, to be changed by the test."""
    return lambda: copy.deepcopy(CARD)


@pytest.fixture(scope="session")
def smollm2_tokenizer(smollm2_path: Path) -> Any:
    """SmolLM2's tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(smollm2_path)
