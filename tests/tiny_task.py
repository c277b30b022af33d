"""A task card and a tokenizer that fit the tiny models' 61 tokens."""

import dataclasses
from pathlib import Path

from acdc_engine.model.view import TransformerView
from tests.fake_tokenizer import FakeTokenizer
from tests.tiny_models import view

CARD = """
name = "tiny"
description = "Somebody gives something to somebody."
metric = "logit_diff"
distinct = [["A", "B", "C"]]
[slots]
A = "names"
B = "names"
C = "names"
[words.names]
words = ["Ann", "Bob", "Cem", "Dora", "Eve", "Fay", "Gus", "Hal", "Ida", "Jon", "Kim", "Lea"]
[[templates]]
name = "ABBA"
clean = "Then {A} and {B} met and {B} gave it to"
corrupt = "Then {A} and {B} met and {C} gave it to"
answers = [" {A}"]
wrong_answers = [" {B}"]
"""


SECOND = """
[[templates]]
name = "BABA"
clean = "Then {B} and {A} met and {B} gave it to"
corrupt = "Then {B} and {A} met and {C} gave it to"
answers = [" {A}"]
wrong_answers = [" {B}"]
"""
"""A second template, to put behind the card."""


def tiny_view(name: str = "llama_grouped") -> TransformerView:
    """A tiny model with the fake tokenizer."""
    return dataclasses.replace(view(name), tokenizer=FakeTokenizer())


def write_card(folder: Path) -> Path:
    """Writes the card and returns its path."""
    path = folder / "tiny.toml"
    path.write_text(CARD)
    return path


def write_two(folder: Path) -> Path:
    """The same with two templates, as a file in a folder."""
    path = folder / "tiny.toml"
    path.write_text(CARD + SECOND)
    return path
