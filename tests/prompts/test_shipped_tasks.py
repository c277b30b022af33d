"""The shipped cards with the real tokenizer they were measured with; those of small models with their own."""

import json
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from acdc_engine.model.load import load_tokenizer
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.card import TaskCard
from acdc_engine.prompts.find import find_task, list_tasks
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.prompts.usable_words import usable_words
from acdc_engine.provenance import prompts_hash
from acdc_engine.shipped import graphs_folder

TASKS = sorted(list_tasks())


def has_own_model(card: TaskCard) -> bool:
    """Whether the card is for a small model that ships with the engine and has a vocabulary of its own."""
    return bool(card.known_in) and (graphs_folder() / card.known_in / "model.json").is_file()


LARGE = [name for name in TASKS if not has_own_model(find_task(name))]
SMALL = [name for name in TASKS if name not in LARGE]


def texts(prompts: PromptSet) -> set[str]:
    return set(chain.from_iterable((pair.clean, pair.corrupt) for pair in prompts.pairs))


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


@pytest.mark.parametrize("name", LARGE)
def test_a_shipped_card_fits_smollm2(name: str, smollm2_tokenizer: Any) -> None:
    discovery, held_out = build_splits(find_task(name), smollm2_tokenizer, 150, 150, seed=1)
    assert len(discovery) == len(held_out) == 150
    assert not texts(discovery) & texts(held_out)


@pytest.mark.parametrize("name", SMALL)
def test_a_card_of_a_small_model_fits_its_vocabulary(name: str) -> None:
    card = find_task(name)
    discovery, held_out = build_splits(card, load_tokenizer(card.known_in), 32, 64, seed=1)
    assert len(discovery) == 32 and len(held_out) == 64
    assert not texts(discovery) & texts(held_out)


def test_ioi_leaves_no_word_out(smollm2_tokenizer: Any) -> None:
    found = usable_words(find_task("ioi"), smollm2_tokenizer)
    assert len(found.words["names"]) == 80
    assert all(not left for left in found.left_out.values())


def test_ioi_prompts_differ_in_the_second_mention_only(smollm2_tokenizer: Any) -> None:
    prompts, _ = build_splits(find_task("ioi"), smollm2_tokenizer, 40, 0, seed=0)
    assert prompts.clean.shape == (40, 14)
    assert (prompts.clean != prompts.corrupt).nonzero()[:, 1].tolist() == [9] * 40
    subject = prompts.clean[:, 9]
    assert (subject == prompts.wrong_answers[:, 0]).all()
    first, second = prompts.clean[:, 1], prompts.clean[:, 3]
    assert ((first == subject) ^ (second == subject)).all()
    assert (first == subject).sum() == 20  # BABA


def test_greater_than_differs_in_two_digits_only(smollm2_tokenizer: Any) -> None:
    prompts, _ = build_splits(find_task("greater_than"), smollm2_tokenizer, 60, 0, seed=0)
    for i, pair in enumerate(prompts.pairs):
        differ = (prompts.clean[i] != prompts.corrupt[i]).nonzero()[:, 0].tolist()
        start = int(prompts.lengths[i]) - 8  # "3 2 to the year _ 1 7" are the last eight tokens
        assert differ in ([start, start + 1], [start])
        tens = int(pair.clean.split()[6][2])
        right = "".join(smollm2_tokenizer.decode([a]) for a in prompts.answers[i].tolist() if a >= 0)
        assert right == "0123456789"[tens + 1 :]


@pytest.mark.parametrize(("name", "differing"), [("ioi_random_names", [1, 3, 9]), ("ioi_swapped", [9]), ("ioi", [9])])
def test_corruptions_of_ioi(name: str, differing: list[int], smollm2_tokenizer: Any) -> None:
    prompts, _ = build_splits(find_task(name), smollm2_tokenizer, 20, 0, seed=0)
    assert (prompts.clean != prompts.corrupt).nonzero()[:, 1].tolist() == differing * 20
    named = prompts.corrupt[:, [1, 3, 9]]
    for row, answer, subject in zip(named.tolist(), prompts.answers[:, 0], prompts.wrong_answers[:, 0], strict=True):
        counts = [row.count(int(subject)), row.count(int(answer))]
        assert len(set(row)) == (2 if name == "ioi_swapped" else 3)
        assert counts == {"ioi": [1, 1], "ioi_swapped": [1, 2], "ioi_random_names": [0, 0]}[name]


def test_docstrings_differ_in_the_documented_arguments_only(smollm2_tokenizer: Any) -> None:
    prompts, _ = build_splits(find_task("docstring"), smollm2_tokenizer, 20, 0, seed=0)
    for i, pair in enumerate(prompts.pairs):
        differing = (prompts.clean[i] != prompts.corrupt[i]).nonzero()[:, 0].tolist()
        tokens = [smollm2_tokenizer.decode([t]).strip() for t in prompts.clean[i]]
        defined = pair.clean.split("(self, ")[1].split(")")[0].split(", ")
        a, b, c = defined[2:5]
        assert [tokens[p] for p in differing] == [a, b, c, a, b]
        assert pair.answers == (f" {c}",)
        assert set(pair.wrong_answers) == {f" {name}" for name in defined if name != c}
        in_corrupt = pair.corrupt.split("(self, ")[1].split(")")[0].split(", ")
        assert not set(in_corrupt[2:5]) & {a, b, c}
        documented = [line.split(":param ")[1].split(":")[0] for line in pair.corrupt.split("\n") if ":param " in line]
        assert len(documented) == 2 and not set(documented) & {*in_corrupt, *defined}


@pytest.mark.parametrize("name", ["sva_simple", "sva_prepositional_phrase", "sva_relative_clause"])
def test_only_the_number_of_the_subject_differs(name: str, smollm2_tokenizer: Any) -> None:
    card = find_task(name)
    prompts, _ = build_splits(card, smollm2_tokenizer, 40, 0, seed=0)
    plural_of = dict(
        zip(*(chain.from_iterable(cells) for cells in card.tables["people"].columns.values()), strict=True)
    )
    for pair in prompts.pairs:
        words = [(a, b) for a, b in zip(pair.clean.split(), pair.corrupt.split(), strict=True) if a != b]
        assert len(words) == 1
        one = pair.answers == (" is", " was", " has")
        subject, other = words[0] if one else reversed(words[0])
        assert plural_of[subject] == other
        assert pair.template.startswith("subject_one" if one else "subject_many")


def test_capitals_go_with_their_countries(smollm2_tokenizer: Any) -> None:
    card = find_task("capital_country")
    prompts, _ = build_splits(card, smollm2_tokenizer, 40, 0, seed=0)
    columns = card.tables["capitals"].columns
    country_of = {
        capital[0]: country[0] for country, capital in zip(columns["country"], columns["capital"], strict=True)
    }
    for pair in prompts.pairs:
        clean, corrupt = (text.removesuffix(", the capital of").split()[-1] for text in (pair.clean, pair.corrupt))
        assert clean != corrupt
        assert pair.answers == (f" {country_of[clean]}",) and pair.wrong_answers == (f" {country_of[corrupt]}",)


@pytest.mark.parametrize("name", TASKS)
def test_prompts_are_those_of_the_first_version(name: str, smollm2_tokenizer: Any) -> None:
    known = json.loads((Path(__file__).parent.parent / "golden" / "shipped_prompts.json").read_text())
    card = find_task(name)
    tokenizer = smollm2_tokenizer if name in LARGE else load_tokenizer(card.known_in)
    assert prompts_hash(*build_splits(card, tokenizer, 32, 64, 0)) == known[name]
