"""The role to call a head by, where heads look, random tokens; heads of models in which it is known who does what."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from acdc_engine import Circuit
from acdc_engine.evidence.roles import (
    _LONGEST,
    _MOST_PROMPTS,
    _SEQUENCES,
    THRESHOLDS,
    Roles,
    _add_looks,
    _attention_targets,
    _Means,
    _repeated_tokens,
    measure_roles,
    role_of,
)
from acdc_engine.graph.records import RoleName, RoleScore
from acdc_engine.model import load_model
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.shipped import graphs_folder
from tests.fake_tokenizer import FakeTokenizer
from tests.tiny_models import VOCAB, random_prompts, view


def score(role: RoleName, value: float, prompts: str = "task") -> RoleScore:
    return RoleScore(
        role=role, value=value, threshold=THRESHOLDS[role], prompts="random" if prompts != "task" else "task"
    )


@pytest.mark.parametrize(
    ("scores", "wanted"),
    [
        ([], None),
        ([score("induction", 0.39), score("name mover", 0.24)], None),
        ([score("induction", 0.4)], "induction"),
        # Of the way from the threshold to 1: .1 / .6 against .1 / .9 and .2 / .9.
        ([score("duplicate token", 0.5), score("S-inhibition", 0.2)], "duplicate token"),
        ([score("duplicate token", 0.5), score("S-inhibition", 0.3)], "S-inhibition"),
        # How it finds what it moves says more than that it moves.
        ([score("name mover", 0.95), score("induction", 0.5)], "induction"),
        # What it does here says more than what it does elsewhere.
        ([score("name mover", 0.3), score("induction", 0.9, "random")], "name mover"),
        ([score("previous token", 0.1), score("previous token", 0.7, "random")], "previous token"),
        # What it would do wherever it looked comes last.
        ([score("copying", 1.0), score("induction", 0.45, "random")], "induction"),
        ([score("copying", 0.2), score("copy suppression", 0.8)], "copy suppression"),
    ],
)
def test_the_role_to_call_a_head_by(scores: list[RoleScore], wanted: str | None) -> None:
    assert role_of(scores) == wanted


@cache
def measured(model: str, task: str, n: int, heads: tuple[str, ...]) -> Roles:
    loaded = load_model(model, device="cpu")
    _, held_out = build_splits(find_task(task), loaded.tokenizer, 1, n, 0)
    return measure_roles(loaded, heads, held_out)


def test_heads_of_the_induction_model() -> None:
    """As graphs/make/induction.py found them, by another definition on other prompts."""
    known = Circuit.load(graphs_folder() / "induction-2l" / "induction.json")
    roles = {node.name: node.role for node in known.nodes if node.kind == "head"}
    found = measured("induction-2l", "induction_2l", 32, tuple(roles))
    assert {name: role_of(found.scores[name]) for name in roles} == roles
    for name, role in roles.items():
        on_both = [s.value for s in found.scores[name] if s.role == role]
        assert len(on_both) == 2 and min(on_both) > 0.8


@pytest.mark.parametrize("task", ["tracr_reverse", "tracr_hist", "tracr_sort_freq"])
def test_compiled_models_have_too_little_to_look_at(task: str) -> None:
    """Six positions, three letters: nothing is said of where heads look; `reverse` and `sort` do move the answer."""
    name = task.replace("_", "-")
    model = load_model(name, device="cpu")
    heads = tuple(sender for sender in model.graph.senders if ".h" in sender)
    found = measured(name, task, 16, heads)
    roles = {s.role for by_role in found.scores.values() for s in by_role}
    assert roles.isdisjoint({"previous token", "duplicate token", "induction"})
    named = {head: role_of(by_role) for head, by_role in found.scores.items()}
    last = {"tracr_reverse": "a3.h0", "tracr_sort_freq": "a4.h0"}.get(task)
    assert {head for head, role in named.items() if role is not None} == ({last} if last else set())
    assert last is None or named[last] == "name mover"


def test_heads_of_smollm2(smollm2_path: Path) -> None:
    """What docs/roles.md says of them, on a few prompts."""
    wanted = {
        "a8.h1": "duplicate token",
        "a17.h4": "induction",
        "a20.h0": "S-inhibition",
        "a23.h0": "name mover",
        "a23.h3": "copy suppression",
        "a24.h4": "negative name mover",
        "a29.h1": None,
    }
    found = measured(str(smollm2_path), "ioi", 8, tuple(wanted))
    assert {name: role_of(scores) for name, scores in found.scores.items()} == wanted
    assert found.direct["a23.h0"].clean > 0.3 and found.direct["a24.h4"].clean < -0.3


def test_only_the_first_prompts_are_measured() -> None:
    model, prompts = view("gpt2"), random_prompts(_MOST_PROMPTS + 5, 4)
    told: list[int] = []
    found = measure_roles(model, ["input", "a1.h0"], prompts, batch_size=50, progress=told.append)
    assert found.direct["input"].n_prompts == _MOST_PROMPTS
    assert told == [50, 14, 16]  # and the random sequences
    first = measure_roles(model, ["input", "a1.h0"], prompts.select(range(_MOST_PROMPTS)), batch_size=50)
    assert first == found


def test_a_task_without_answers_has_roles_of_attention_only() -> None:
    made = random_prompts(4, 9)
    prompts = PromptSet.from_tokens(made.clean.tolist(), made.corrupt.tolist())
    found = measure_roles(view("gpt2"), ["input", "a1.h2"], prompts)
    assert found.direct == {}
    assert {s.role for s in found.scores["a1.h2"]} == {"previous token", "duplicate token", "induction"}


REPEATED = torch.tensor([[9, 1, 2, 3, 4, 1, 2, 3, 4]])
"""BOS, four tokens, the same four."""
LENGTH = torch.tensor([9])


def pairs(target: Tensor) -> set[tuple[int, int]]:
    return {(q, p) for _, q, p in target.nonzero().tolist()}


def means(*prompts: tuple[Tensor, Tensor, Tensor]) -> dict[str, float]:
    """Scores of one head from patterns `[queries, pos]`, tokens and lengths of some batches."""
    found = _Means()
    for pattern, tokens, lengths in prompts:
        patterns = pattern.expand(len(tokens), 1, -1, -1)
        _add_looks(found, "task", 0, patterns, _attention_targets(tokens, lengths))
    values = {role: found.of(("task", 0, role, None)) for role in ("previous token", "duplicate token", "induction")}
    return {role: value[0] for role, value in values.items() if value is not None}


def test_targets_by_hand() -> None:
    found = _attention_targets(REPEATED, LENGTH)
    assert pairs(found["previous token"]) == {(q, q - 1) for q in range(2, 9)}
    assert pairs(found["duplicate token"]) == {(5, 1), (6, 2), (7, 3), (8, 4)}
    assert pairs(found["induction"]) == {(5, 2), (6, 3), (7, 4), (8, 5)}


def test_every_earlier_occurrence_counts_but_not_the_first_position_nor_oneself() -> None:
    found = _attention_targets(torch.tensor([[7, 7, 7, 1, 2, 3, 4, 7]]), torch.tensor([8]))
    assert pairs(found["duplicate token"]) == {(2, 1), (7, 1), (7, 2)}
    assert pairs(found["induction"]) == {(7, 2), (7, 3)}  # (2, 2) would be the position itself


def test_padding_and_short_prompts_do_not_count() -> None:
    tokens = torch.cat([REPEATED, REPEATED, REPEATED])
    found = _attention_targets(tokens, torch.tensor([9, 8, 7]))
    assert [int(found["induction"][row].sum()) for row in range(3)] == [4, 3, 0]
    assert [int(found["previous token"][row].sum()) for row in range(3)] == [7, 6, 0]


def test_repetitions_that_the_corrupt_prompt_has_too_do_not_count() -> None:
    """The repeated 1 is replaced, 2, 3 and 4 stay."""
    corrupt = REPEATED.clone()
    corrupt[0, 5] = 8
    found = _attention_targets(REPEATED, LENGTH, corrupt)
    assert pairs(found["duplicate token"]) == {(5, 1)}
    assert pairs(found["induction"]) == {(5, 2)}
    assert len(pairs(found["previous token"])) == 7


@pytest.mark.parametrize("role", ["previous token", "duplicate token", "induction"])
def test_a_head_that_does_just_this_scores_one_and_no_other_role(role: RoleName) -> None:
    pattern = torch.zeros(9, 9)
    targets = _attention_targets(REPEATED, LENGTH)[role][0]
    pattern[targets] = 1.0
    pattern[~targets.any(-1), 0] = 1.0
    found = means((pattern, REPEATED, LENGTH))
    assert found[role] == pytest.approx(1.0)
    assert all(value == 0.0 for other, value in found.items() if other != role)


def test_looking_everywhere_alike_scores_by_chance() -> None:
    found = means((torch.ones(9, 9).tril() / torch.arange(1, 10)[:, None], REPEATED, LENGTH))
    assert found["previous token"] == pytest.approx(sum(1 / (q + 1) for q in range(2, 9)) / 7)
    repeated = pytest.approx((1 / 6 + 1 / 7 + 1 / 8 + 1 / 9) / 4)
    assert found["duplicate token"] == repeated and found["induction"] == repeated


def test_a_role_that_no_position_tells_of_is_left_out() -> None:
    assert means((torch.eye(9), torch.arange(9)[None], LENGTH)) == {"previous token": 0.0}
    assert means((torch.eye(1), torch.tensor([[3]]), torch.tensor([1]))) == {}


def test_means_are_over_positions_of_all_batches() -> None:
    """Seven positions that look back, and six of a shorter prompt that do not."""
    back = torch.zeros(9, 9)
    back[range(1, 9), range(8)] = 1.0
    found = means((back, REPEATED, LENGTH), (torch.eye(9), REPEATED, torch.tensor([8])))
    assert found["previous token"] == pytest.approx(7 / 13)


def test_places_add_up_to_whole_prompts() -> None:
    """Each by itself, and weighed by how many of its tokens tell of a role; on random tokens there are no places."""
    tokens = torch.randint(1, 61, (5, 9), generator=torch.Generator().manual_seed(0))
    tokens[:, 6] = tokens[:, 2]
    corrupt = tokens.clone()
    corrupt[:, 6] = 60 - tokens[:, 2] // 2
    plain = PromptSet.from_tokens(tokens.tolist(), corrupt.tolist(), [[1]] * 5, [[2]] * 5)
    row = ["bos", "A", "B", "and", "and", "A", "B", "to", "end"]
    whole = measure_roles(view("llama_grouped"), ["a1.h2"], plain).scores["a1.h2"]
    names = ("A", "B", "and", "to", "end")
    placed = measure_roles(view("llama_grouped"), [f"a1.h2@{name}" for name in names], plain.placed([row] * 5)).scores
    found = {name: {(one.role, one.prompts): one.value for one in placed[f"a1.h2@{name}"]} for name in names}
    telling = {"A": 1, "B": 2, "and": 2, "to": 1, "end": 1}  # from position 2 on
    for one in whole:
        at = {name: found[name][one.role, one.prompts] for name in names if (one.role, one.prompts) in found[name]}
        if one.prompts == "random":
            assert set(at.values()) == {one.value} and len(at) == 5
        elif one.role == "previous token":
            assert one.value == pytest.approx(sum(telling[name] * at[name] for name in names) / 7) and len(at) == 5
            assert len(set(at.values())) == 5
        elif one.role in ("duplicate token", "induction"):
            assert at == {"B": pytest.approx(one.value)}, "where something is repeated"


# Random tokens


def model(**changes: Any) -> TransformerView:
    return replace(view("llama_grouped"), **{"tokenizer": None, "max_positions": 64, **changes})


def prompts(length: int, first: int | None = None) -> PromptSet:
    made = random_prompts(3, length)
    if first is None:
        return made
    rows = [[first, *row[1:]] for row in made.clean.tolist()]
    return PromptSet.from_tokens(rows, rows)


@pytest.mark.parametrize(("task", "wanted"), [(7, 8), (21, 10), (60, _LONGEST)])
def test_sequences_are_as_long_as_the_task_is_within_bounds(task: int, wanted: int) -> None:
    found = _repeated_tokens(model(), prompts(task), seed=0)
    assert found is not None and found.shape == (_SEQUENCES, 2 * wanted)
    assert torch.equal(found[:, :wanted], found[:, wanted:])
    assert all(len(set(row)) == wanted for row in found[:, :wanted].tolist())


def test_sequences_are_no_longer_than_the_model() -> None:
    found = _repeated_tokens(model(max_positions=19), prompts(60), seed=0)
    assert found is not None and found.shape[1] == 18


def test_bos_comes_first_where_the_task_has_it_and_only_there() -> None:
    with_bos = model(tokenizer=FakeTokenizer(bos=1), max_positions=17)
    found = _repeated_tokens(with_bos, prompts(20, first=1), seed=0)
    assert found is not None and found.shape[1] == 17
    assert found[:, 0].tolist() == [1] * _SEQUENCES and not (found[:, 1:] == 1).any()
    without = _repeated_tokens(with_bos, prompts(20, first=5), seed=0)
    assert without is not None and without.shape[1] == 16 and len(set(without[:, 0].tolist())) > 1


class Special(FakeTokenizer):
    """Forty of the model's 61 tokens are words, twenty of them special."""

    all_special_ids = range(20)

    def __len__(self) -> int:
        return 40


def test_special_tokens_and_padding_of_the_vocabulary_are_not_drawn() -> None:
    found = _repeated_tokens(model(tokenizer=Special()), prompts(14), seed=0)
    assert found is not None and int(found.min()) >= 20 and int(found.max()) < 40


@pytest.mark.parametrize("changes", [{"max_positions": 15}, {"d_vocab_in": 15}])
def test_too_few_positions_or_tokens(changes: dict[str, int]) -> None:
    assert _repeated_tokens(model(**changes), prompts(14), seed=0) is None
    assert VOCAB > 16 and _repeated_tokens(model(max_positions=16, d_vocab_in=16), prompts(14), seed=0) is not None
