"""The shipped cards with the real tokenizer they were measured with."""

from typing import Any

import pytest

from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.find import find_task, list_tasks
from acdc_engine.prompts.usable_words import usable_words


@pytest.mark.parametrize("name", sorted(list_tasks()))
def test_a_shipped_card_fits_smollm2(name: str, smollm2_tokenizer: Any) -> None:
    discovery, held_out = build_splits(find_task(name), smollm2_tokenizer, 150, 150, seed=1)
    assert len(discovery) == len(held_out) == 150
    seen, unseen = ({text for p in split.pairs for text in (p.clean, p.corrupt)} for split in (discovery, held_out))
    assert not seen & unseen


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
