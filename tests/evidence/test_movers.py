"""Copying, name movers and S-inhibition on models worked out on paper (tests/micro_models.py)."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from acdc_engine.evidence.movers import answer_positions, changes_of, copied, inhibition, moved
from acdc_engine.evidence.roles import THRESHOLDS, measure_roles
from acdc_engine.model.layers import Norm, project
from acdc_engine.model.twins import Record
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.prompt_set import PromptSet
from tests.micro_models import copying_head, head_feeds_query
from tests.tiny_models import random_prompts, view

ALL_HEADS = {0: range(4), 1: range(4)}
"""Of the tiny models."""


def wide_model(size: int = 120) -> TransformerView:
    """Logits are the residual stream itself."""
    model, _ = copying_head()
    return replace(model, d_model=size, d_vocab=size, unembed_weight=torch.eye(size))


def up_and_down(model: TransformerView, write: Sequence[float], token: int) -> tuple[bool, bool]:
    raised, lowered = copied(model, torch.tensor([write]), torch.tensor([token]))
    return bool(raised), bool(lowered)


FALLING = [float(-i) for i in range(120)]


@pytest.mark.parametrize(
    ("write", "token", "raised"),
    [
        *((FALLING, rank, wanted) for rank, wanted in ((0, True), (4, True), (5, False), (60, False))),
        *((FALLING[:40], rank, rank < 2) for rank in range(4)),  # of a small vocabulary a twentieth
        ([0.0] * 120, 3, False),  # ties count against
        ([1.0] * 6 + [0.0] * 114, 3, False),
        ([1.0] * 5 + [0.0] * 115, 3, True),
    ],
)
def test_the_five_largest_and_the_five_smallest(write: list[float], token: int, raised: bool) -> None:
    model = wide_model(len(write))
    assert up_and_down(model, write, token) == (raised, False)
    assert up_and_down(model, [-x for x in write], token) == (False, raised)


def test_blocks_of_the_vocabulary_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = view("llama_grouped")
    writes = torch.randn(50, 32, generator=torch.Generator().manual_seed(0))
    tokens = torch.arange(50)
    whole = copied(model, writes, tokens)
    monkeypatch.setattr("acdc_engine.evidence.movers._BLOCK_NUMBERS", 50 * 7)
    assert all(map(torch.equal, copied(model, writes, tokens), whole))
    assert model.final_norm.weight is not None
    logits = (writes * model.final_norm.weight) @ model.unembed_weight.T
    assert torch.equal(whole[0], (logits.argsort(-1, descending=True)[:, :3] == tokens[:, None]).any(1))


def test_the_final_norm_counts() -> None:
    """Gain, and for LayerNorm the mean: token 1 is first before the norm and last behind it."""
    model = wide_model(20)
    gain = torch.ones(20)
    gain[1] = -1.0
    write = [0.0, 5.0] + [1.0] * 18
    assert up_and_down(model, write, 1) == (True, False)
    assert up_and_down(replace(model, final_norm=Norm("rms", gain)), write, 1) == (False, True)
    mixed = torch.eye(20)
    mixed[0] = 3.0  # sees the sum, which centring takes away
    centred = replace(model, unembed_weight=mixed, final_norm=Norm("layer"))
    assert up_and_down(replace(centred, final_norm=Norm("rms")), write, 0) == (True, False)
    assert up_and_down(centred, write, 0) == (False, False)


def test_a_head_moves_the_values_of_its_group() -> None:
    model = view("llama_grouped")
    v = torch.randn(3, 2, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(moved(model, 1, 3, v), v[:, 1] @ model.layers[1].attention.w_o[3])
    assert torch.allclose(moved(model, 1, 1, v), v[:, 0] @ model.layers[1].attention.w_o[1])


def test_places_of_the_answers() -> None:
    """Up to the position read where attention is causal; never in the padding."""
    prompts = PromptSet.from_tokens(
        [[5, 6, 5, 0], [6, 7]], [[5, 6, 5, 0], [6, 7]], [[5, 0], [9]], [[6], [6]], read_at=[1, 1]
    )
    right, wrong = answer_positions(prompts, causal=True)
    assert right.tolist() == [[True, False, False, False], [False] * 4]
    assert wrong.tolist() == [[False, True, False, False], [True, False, False, False]]
    right, _ = answer_positions(prompts, causal=False)
    assert right.tolist() == [[True, False, True, True], [False] * 4]


def scores(model: TransformerView, prompts: PromptSet) -> dict[str, dict[str, float]]:
    found = measure_roles(model, model.graph.senders, prompts).scores
    return {head: {score.role: score.value for score in by_role} for head, by_role in found.items()}


def flipped(model: TransformerView) -> TransformerView:
    """Every head writes the opposite."""
    layers = [replace(layer, attention=replace(layer.attention, w_o=-layer.attention.w_o)) for layer in model.layers]
    return replace(model, layers=tuple(layers))


def test_a_name_mover_by_hand_and_a_negative_one() -> None:
    """copying_head gives 3/4 to the answer and copies it; the prompts are too short for any other role.

    Flipped it writes -(3, 1): both logits fall. Of three, that of the token it looks at falls most.
    """
    model, prompts = copying_head()
    wanted = {"name mover": 0.75, "negative name mover": 0.0, "copying": 1.0, "copy suppression": 0.0}
    assert scores(model, prompts)["a0.h0"] == pytest.approx(wanted)
    wanted = {"name mover": 0.0, "negative name mover": 0.75, "copying": 0.0, "copy suppression": 1.0}
    assert scores(flipped(model), prompts)["a0.h0"] == pytest.approx(wanted)


def test_a_name_mover_at_another_place() -> None:
    """At token 0 the head looks at nothing but the answer. What is copied and who is turned do not depend on that."""
    model, prompts = copying_head()
    found = measure_roles(model, ["a0.h0@A", "a0.h0@end"], prompts.placed([["A", "end"]]))
    first, last = ({one.role: one.value for one in found.scores[name]} for name in ("a0.h0@A", "a0.h0@end"))
    assert last == pytest.approx(scores(model, prompts)["a0.h0"])
    assert first == pytest.approx({**last, "name mover": 1.0})
    assert list(found.direct) == ["a0.h0@end"]
    turned, prompts = head_feeds_query()
    nodes = [f"{head}@{span}" for head in ("a0.h0", "a1.h0") for span in ("A", "end")]
    placed = measure_roles(turned, nodes, prompts.placed([["A", "end"]])).scores
    inhibition = {name: one.value for name in nodes for one in placed[name] if one.role == "S-inhibition"}
    assert inhibition == pytest.approx({"a0.h0@end": 0.5})


def test_prompts_without_the_answer_do_not_count_and_mostly_without_it_nothing_is_measured() -> None:
    model, _ = copying_head()
    rows = [[0, 1], [2, 1]]
    half = PromptSet.from_tokens(rows, [[2, 1]] * 2, [[0]] * 2, [[1]] * 2)
    assert scores(model, half)["a0.h0"]["name mover"] == pytest.approx(0.75)
    third = PromptSet.from_tokens([*rows, [2, 1]], [[2, 1]] * 3, [[0]] * 3, [[1]] * 3)
    assert scores(model, third)["a0.h0"] == {}


def test_inhibition_by_hand() -> None:
    """head_feeds_query: with a0.h0's clean write a1.h0 gives 3/4 and 1/4 to right and wrong, with its corrupt one half
    each: 1/2 - 0. It is a name mover, with no head behind it."""
    found = scores(*head_feeds_query())
    assert found["a1.h0"]["name mover"] == pytest.approx(0.75)
    assert found["a0.h0"]["S-inhibition"] == pytest.approx(0.5)
    assert "S-inhibition" not in found["a1.h0"]


def test_turning_a_negative_mover_is_no_inhibition() -> None:
    model, prompts = head_feeds_query()
    found = scores(replace(model, layers=(model.layers[0], flipped(model).layers[1])), prompts)
    assert found["a1.h0"]["negative name mover"] == pytest.approx(0.75) and "S-inhibition" not in found["a0.h0"]


def test_inhibition_needs_movers_and_a_wrong_answer_in_the_prompt() -> None:
    model, prompts = head_feeds_query()
    elsewhere = PromptSet.from_tokens(prompts.clean.tolist(), prompts.corrupt.tolist(), [[0]], [[2]])
    assert "S-inhibition" not in scores(model, elsewhere)["a0.h0"]
    layer = replace(
        model.layers[1], attention=replace(model.layers[1].attention, w_v=model.layers[1].attention.w_v * 0)
    )
    assert "S-inhibition" not in scores(replace(model, layers=(model.layers[0], layer)), prompts)["a0.h0"]


def with_answers_inside() -> PromptSet:
    """Prompts of several lengths in which the answers stand."""
    made = random_prompts(6, 12, seed=4, ragged=True)
    lengths = made.lengths.tolist()
    clean = [[*row[:4], row[2], *row[5:n]] for row, n in zip(made.clean.tolist(), lengths, strict=True)]
    corrupt = [row[:n] for row, n in zip(made.corrupt.tolist(), lengths, strict=True)]
    return PromptSet.from_tokens(clean, corrupt, [[row[3]] for row in clean], [[row[2]] for row in clean])


def records(model: TransformerView, batch: PromptSet) -> tuple[Record, Record]:
    """Of its clean and its corrupt run."""
    found = Record(model.embed(batch.clean)), Record(model.embed(batch.corrupt))
    for record in found:
        model.run(record.embed, record, keep_inputs=True)
    return found


@torch.no_grad()
@pytest.mark.parametrize("name", ["gpt2", "olmo2", "llama_grouped"])
def test_inhibition_batch_by_batch_is_that_of_all_prompts_at_once(name: str) -> None:
    """Also against its definition: the mover's layer run again with one head's write exchanged in its query alone."""
    prompts, model = with_answers_inside(), view(name)
    movers, means = [(1, 0), (1, 3)], []
    for size in (1, 4, 6):
        batches = [
            (batch, changes_of(model, batch, *records(model, batch), ALL_HEADS)) for batch in prompts.batches(size)
        ]
        found = inhibition(model, ALL_HEADS, movers, batches)
        assert list(found) == [(0, head) for head in range(4)]  # no mover behind the others
        means.append(list(found.values()))
    assert means[0] == pytest.approx(means[2], abs=1e-6) and means[1] == pytest.approx(means[2], abs=1e-6)
    ((batch, change),) = batches
    right, wrong = answer_positions(batch, causal=True)
    rows, at, attention = torch.arange(6), prompts.read_at, model.layers[1].attention
    block = records(model, batch)[0].of(model.graph, "attention", 1)
    assert block.x is not None
    own, k, _ = block.inputs
    read = block.x.clone()
    read[rows, at] -= change[0][:, 2] @ model.layers[0].effective_w_o[2]
    asked = project(model.layers[1].attention_norm(read), attention.w_q, attention.b_q)
    lost = []
    for _, head in movers:
        q = own.clone()
        q[:, :, head] = asked[:, :, head]
        looks = [attention.weights(x, k, model.rotations(12)[1], [head]) for x in (own, q)]
        lean = [(look[rows, 0, at] * (right.float() - wrong.float())).sum(1) for look in looks]
        lost.append(float((lean[0] - lean[1]).mean()))
    assert means[2][2] == pytest.approx(sum(lost) / 2, abs=1e-6) and abs(sum(lost)) > 1e-5


def test_at_a_place_it_is_as_if_that_were_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every head a name mover. Prompts without the place do not count."""
    monkeypatch.setitem(THRESHOLDS, "name mover", -1.0)
    prompts, model = with_answers_inside(), view("llama_grouped")
    rows = [
        [*["and"] * 6, "B" if i else "and", *["and"] * (n - 8), "end"] for i, n in enumerate(prompts.lengths.tolist())
    ]
    placed = measure_roles(model, ["a0.h1@B", "a1.h2@B", "a0.h1@end", "a1.h2@end"], prompts.placed(rows)).scores
    there = replace(prompts, read_at=torch.full((6,), 6)).select(range(1, 6))
    for span, plain in (("B", there), ("end", prompts)):
        wanted = measure_roles(model, ["a0.h1", "a1.h2"], plain).scores
        for role in ("S-inhibition", "name mover"):
            found = [one.value for one in placed[f"a0.h1@{span}"] if one.role == role]
            assert (
                found == pytest.approx([one.value for one in wanted["a0.h1"] if one.role == role]) and len(found) == 1
            )
        assert any(one.role == "S-inhibition" and abs(one.value) > 1e-5 for one in placed[f"a0.h1@{span}"])


@torch.no_grad()
def test_what_is_kept_until_the_movers_are_known_does_not_grow_with_the_prompts_length() -> None:
    """Keys at all positions of 64 prompts of 512 tokens would be 16 GiB in a model of 7B."""
    for pos in (9, 18):
        batch = random_prompts(4, pos)
        kept = changes_of(view("gpt2"), batch, *records(view("gpt2"), batch), ALL_HEADS)
        assert sum(change.untyped_storage().nbytes() for change in kept.values()) == 2 * 4 * 32 * 4  # layers to bytes


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "olmo2", "mistral"])
def test_batches_and_padding_change_nothing(name: str) -> None:
    """Prompts of several lengths, together and one by one; the answers stand in them."""
    prompts, model = with_answers_inside(), view(name)
    found = [measure_roles(model, model.graph.senders, prompts, batch_size=size) for size in (1, 4, 16)]
    for other in found[1:]:
        for head, by_role in found[0].scores.items():
            assert [s.value for s in by_role] == pytest.approx([s.value for s in other.scores[head]], abs=1e-5)
        for node, direct in found[0].direct.items():
            assert direct.clean == pytest.approx(other.direct[node].clean, abs=1e-4)
            assert direct.corrupt == pytest.approx(other.direct[node].corrupt, abs=1e-4)
    roles = {score.role for by_role in found[0].scores.values() for score in by_role}
    assert {"previous token", "duplicate token", "induction", "name mover", "copying"} <= roles
