"""The shipped cards with the real tokenizer they were measured with; those of small models with their own."""

import json
from pathlib import Path
from typing import Any

import pytest

from acdc_engine.model.load import load_tokenizer
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.card import TaskCard
from acdc_engine.prompts.find import find_task, list_tasks
from acdc_engine.provenance import prompts_hash
from acdc_engine.shipped import graphs_folder

TASKS = sorted(list_tasks())


def has_own_model(card: TaskCard) -> bool:
    """Whether the card is for a small model that ships with the engine and has a vocabulary of its own."""
    return bool(card.known_in) and (graphs_folder() / card.known_in / "model.json").is_file()


LARGE = [name for name in TASKS if not has_own_model(find_task(name))]
SMALL = [name for name in TASKS if name not in LARGE]


@pytest.mark.parametrize("name", TASKS)
def test_a_shipped_card_says_where_it_comes_from(name: str) -> None:
    card, readme = find_task(name), (list_tasks()[name].parent / "README.md").read_text(encoding="utf-8")
    assert card.name == name
    assert card.source
    identifiers = [
        part for part in card.source.replace(";", " ").split() if "." in part and any(map(str.isdigit, part))
    ]
    assert all(identifier in readme for identifier in identifiers), identifiers
    assert f"(`{name}`)" in readme.split("\n")[0]


@pytest.mark.parametrize(("name", "differing"), [("ioi_random_names", [1, 3, 9]), ("ioi_swapped", [9]), ("ioi", [9])])
def test_corruptions_of_ioi(name: str, differing: list[int], smollm2_tokenizer: Any) -> None:
    prompts, _ = build_splits(find_task(name), smollm2_tokenizer, 20, 0, seed=0)
    assert (prompts.clean != prompts.corrupt).nonzero()[:, 1].tolist() == differing * 20
    named = prompts.corrupt[:, [1, 3, 9]]
    for row, answer, subject in zip(named.tolist(), prompts.answers[:, 0], prompts.wrong_answers[:, 0], strict=True):
        counts = [row.count(int(subject)), row.count(int(answer))]
        assert len(set(row)) == (2 if name == "ioi_swapped" else 3)
        assert counts == {"ioi": [1, 1], "ioi_swapped": [1, 2], "ioi_random_names": [0, 0]}[name]


SPANS = {
    "ioi": ["When", "A", "B", "and", "went to the", "place", ",", "B.2", "gave a", "object", "end"],
    "gendered_pronoun": ["So", "Well", "name", "is such a", "really is a", "quality", "role", "isn't", "end"],
    "greater_than": ["The", "noun", "lasted from the year", "century", "year", "to the year", "century.2", "end"],
    "docstring": [
        *("def", "f", "self", "rand", ",_rand", "A_def", ",_A", "B_def", ",_B", "C_def", ",_C", '):"""', "words"),
        *("param_A", "A_doc", ":", "param_B", "B_doc", ":.2", "param_C", "end"),
    ],
    "arithmetic": ["solved", "a", "+", "b", "=", "end"],
    "hypernymy": ["name", "wrote about", "thing", "and other", "end"],
    "induction": ["others", "match", "answer", "repeated", "end"],
    "sva_relative_clause": ["The", "subject", "that the", "other", "verb", "end"],
    "retrieval": [
        *("rest", "other keys", "other values", "key", "is", "value", "wrong key", "wrong is", "wrong value"),
        *("asked", "end"),
    ],
    "tracr_hist": ["bos", "w0", "w1", "w2", "w3", "w4", "end"],
}


@pytest.mark.parametrize("name", TASKS)
def test_every_token_is_of_a_span(name: str, smollm2_tokenizer: Any) -> None:
    card = find_task(name)
    tokenizer = smollm2_tokenizer if name in LARGE else load_tokenizer(card.known_in)
    plain, _ = build_splits(card, tokenizer, 24, 0, 0)
    prompts, _ = build_splits(card, tokenizer, 24, 0, 0, where="spans")
    assert prompts.clean.equal(plain.clean) and prompts.pairs == plain.pairs
    assert prompts.spans is not None
    assert prompts.spans.names[prompts.spans.end] == "end"
    for row, at, length in zip(prompts.span_names(), prompts.read_at, prompts.lengths, strict=True):
        assert len(row) == length and [i for i, name in enumerate(row) if name == "end"] == [at]
        assert "rest" not in row or name.startswith("retrieval")
    if name in SPANS:
        assert sorted(prompts.spans.names) == sorted(SPANS[name])
    if name == "ioi":
        words = ["When", "A", "and", "B", *["went to the"] * 3, "place", ",", "B.2", *["gave a"] * 2, "object", "end"]
        assert prompts.span_names()[0] == words


@pytest.mark.parametrize("name", TASKS)
def test_prompts_stay_the_same(name: str, smollm2_tokenizer: Any) -> None:
    known = json.loads((Path(__file__).parent.parent / "golden" / "shipped_prompts.json").read_text())
    card = find_task(name)
    tokenizer = smollm2_tokenizer if name in LARGE else load_tokenizer(card.known_in)
    assert prompts_hash(*build_splits(card, tokenizer, 32, 64, 0)) == known[name]
