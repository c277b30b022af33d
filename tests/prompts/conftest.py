"""A tokenizer small enough to reason about, a card to vary, and the real tokenizer where there is one."""

import copy
import os
import re
from collections.abc import Callable
from typing import Any

import pytest


class FakeTokenizer:
    """Words with the space in front; some suffixes split off; digits in pieces of a fixed length.

    `digits=1` splits years as SmolLM2 does, `digits=2` as GPT-2, `digits=None` leaves them whole.
    """

    def __init__(self, digits: int | None = 1, bos: int | None = 1) -> None:
        self.digits = digits
        self.bos_token_id = bos
        self.vocabulary: list[str] = ["<pad>", "<bos>"]

    def pieces(self, text: str) -> list[str]:
        found: list[str] = []
        for word in re.findall(r" ?[A-Za-z]+| ?\d+| ?[^\sA-Za-z\d]|\s", text):
            stem = re.fullmatch(r"( ?[A-Za-z]{2,}?)(ovich|ina)", word)
            if stem:
                found += stem.groups()
            elif self.digits and word.strip().isdigit():
                found += re.findall(rf" ?\d{{1,{self.digits}}}", word)
            else:
                found.append(word)
        return found

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
        ids = []
        for piece in self.pieces(text):
            if piece not in self.vocabulary:
                self.vocabulary.append(piece)
            ids.append(self.vocabulary.index(piece))
        return {"input_ids": [1, *ids] if add_special_tokens else ids}

    def decode(self, token_ids: list[int]) -> str:
        return "".join(self.vocabulary[i] for i in token_ids)

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [self.vocabulary[i].replace(" ", "_") for i in ids]


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
def smollm2_tokenizer() -> Any:
    """SmolLM2's tokenizer from the folder named in ACDC_TEST_SMOLLM2 (a converted model)."""
    folder = os.environ.get("ACDC_TEST_SMOLLM2")
    if not folder:
        pytest.skip("ACDC_TEST_SMOLLM2 does not name a folder with a converted SmolLM2")
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)
