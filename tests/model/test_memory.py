"""Batches follow tokens: what fits is estimated from the model's shape, and results do not depend on it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from acdc_engine.evidence.roles import measure_roles
from acdc_engine.model.devices import Room, scoring_bytes
from acdc_engine.model.layers import read_positions
from acdc_engine.model.twins import Record
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.evaluator import Variants
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.run.meter import memory_note
from acdc_engine.score import get_method, score_edges
from tests.tiny_models import CORE, random_prompts, relative, view

METRIC = get_metric("logit_diff")


def saved_bytes(name: str, batch: int, pos: int) -> int:
    """What autograd keeps of one recorded run."""
    v, kept = view(name), {}
    weights = {weight.untyped_storage().data_ptr() for layer in v.layers for weight in layer.mlp.parameters()}  # type: ignore[union-attr]

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and tensor.shape[:1] == (batch,):
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    prompts = random_prompts(batch, pos)
    record = Record(v.embed(prompts.clean).detach().requires_grad_())
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        METRIC(v.unembed(read_positions(v.run(record.embed, record, True), prompts.read_at)), prompts).sum()
    return sum(kept.values())


@pytest.mark.parametrize("name", [name for name in CORE if name != "mixtral"])
def test_the_estimate_covers_what_a_backward_pass_keeps(name: str) -> None:
    saved = saved_bytes(name, 4, 16) / (4 * 16)
    assert saved < scoring_bytes(view(name), 16) < 8 * saved


@pytest.mark.parametrize("name", ["gpt2", "gemma3", "llama_grouped"])
@pytest.mark.parametrize("tokens", [1, 11, 25])
def test_results_are_equal_however_batches_are_cut(name: str, tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    v, prompts = replace(view(name)), random_prompts(7, ragged=True)
    mask = v.graph.exists.clone()
    mask[::3] = False

    def results() -> list[Tensor]:
        scores = score_edges(v, prompts, METRIC, get_method("eap-ig"), rms=True, per_example=True)
        assert scores.per_example is not None
        evaluators = [CircuitEvaluator(v, prompts, ablation) for ablation in ("patch", "mean")]
        roles = measure_roles(v, [n for n in v.graph.senders if n != "input"], prompts)
        return [
            *scores.both,
            scores.per_example,
            *(e.values(torch.stack([mask, v.graph.exists]), METRIC) for e in evaluators),
            *(e.values(Variants.of(v.graph.exists, mask[None]), METRIC) for e in evaluators),
            *(e.edge_gradients(mask, METRIC) for e in evaluators),
            evaluators[0].clean_logits(),
            evaluators[0].ablated_logits(),
            torch.tensor([effect.clean for effect in roles.direct.values()]),
        ]

    wanted = results()
    monkeypatch.setitem(vars(v), "room", Room(tokens * scoring_bytes(v, 8), 1, 1))
    parts = prompts.batch_rows(16, v.fitting)
    assert len(parts) > 1
    assert sorted(row for part in parts for row in part) == list(range(7))
    assert all(len(part) == 1 or len(part) * max(prompts.lengths[part]) <= tokens + 8 for part in parts)
    for ours, theirs in zip(results(), wanted, strict=True):
        assert relative(ours, theirs) < 1e-4


def test_short_prompts_run_in_the_batches_asked_for() -> None:
    v, prompts = view("gpt2"), random_prompts(7, ragged=True)
    assert prompts.batch_rows(3, v.fitting) == [[0, 1, 2], [3, 4, 5], [6]]


def test_long_prompts_are_grouped_by_length() -> None:
    lengths = [2, 9, 2, 8, 2, 2]
    prompts = PromptSet.from_tokens([[1] * n for n in lengths], [[2] * n for n in lengths])
    assert prompts.batch_rows(4, lambda pos: 18 // pos) == [[1, 3], [0, 2, 4, 5]]
    assert prompts.batch_rows(4, lambda pos: max(1, 5 // pos)) == [[1], [3], [0, 2], [4, 5]]


def test_much_memory_is_said_beforehand() -> None:
    v, prompts = view("gpt2"), random_prompts(2)
    assert memory_note(v, prompts, prompts, batch_size=16) is None
    long = PromptSet.from_tokens([[1] * 90_000] * 32, [[2] * 90_000] * 32)
    note = memory_note(v, long, prompts, batch_size=16)
    assert note is not None
    assert "x 90,000 tokens" in note
    assert "--n-held-out" in note
    small = replace(v)
    vars(small)["room"] = replace(v.room, kept=2**20)
    many, few = memory_note(v, long, prompts, batch_size=1), memory_note(small, long, prompts, batch_size=1)
    assert many is not None and few is not None and "host" not in many
    all_of_them = many.partition("running circuits keeps about ")[2].partition(" of all prompts")[0]
    assert f"keeps about 0.0 GiB of all prompts and {all_of_them} of them in the host's memory. Fewer" in few


@pytest.mark.parametrize("name", ["gpt2", "gemma3"])
def test_what_lies_before_the_corruption_is_let_go(name: str) -> None:
    """A part of a tensor would hold all of it. The first five of eight tokens are the same here."""
    prompts = PromptSet.from_tokens([[1, 2, 3, 4, 5, 6, 7, 8]] * 4, [[1, 2, 3, 4, 5, 9, 7, 8]] * 4)
    grounds = next(iter(CircuitEvaluator(view(name), prompts)._ready)).baseline.grounds
    kept = [part for one in grounds for part in (one.x, one.values, one.z, one.total) if part is not None]
    assert kept and all(part.shape[-2] == 3 for part in kept)
    assert all(part.untyped_storage().nbytes() == part.numel() * part.element_size() for part in kept)
