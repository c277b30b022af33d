"""The role to call a head by; heads of models in which it is known who does what."""

from functools import cache
from pathlib import Path

import pytest

from acdc_engine import Circuit
from acdc_engine.evidence.roles import MOST_PROMPTS, THRESHOLDS, Roles, measure_roles, role_of
from acdc_engine.graph.records import RoleName, RoleScore
from acdc_engine.model import load_model
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.shipped import graphs_folder
from tests.tiny_models import random_prompts, view


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
    model, prompts = view("gpt2"), random_prompts(MOST_PROMPTS + 5, 4)
    told: list[int] = []
    found = measure_roles(model, ["input", "a1.h0"], prompts, batch_size=50, progress=told.append)
    assert found.direct["input"].n_prompts == MOST_PROMPTS
    assert told == [50, 14, 16]  # and the random sequences
    first = measure_roles(model, ["input", "a1.h0"], prompts.select(range(MOST_PROMPTS)), batch_size=50)
    assert first == found


def test_a_task_without_answers_has_roles_of_attention_only() -> None:
    made = random_prompts(4, 9)
    prompts = PromptSet.from_tokens(made.clean.tolist(), made.corrupt.tolist())
    found = measure_roles(view("gpt2"), ["input", "a1.h2"], prompts)
    assert found.direct == {}
    assert {s.role for s in found.scores["a1.h2"]} == {"previous token", "duplicate token", "induction"}


def test_a_seed_gives_the_same_scores_on_random_tokens() -> None:
    found = [measure_roles(view("gpt2"), ["a1.h2"], random_prompts(4, 9), seed=seed) for seed in (3, 3, 4)]
    assert found[0] == found[1] != found[2]
