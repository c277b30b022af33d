"""Attention patterns: what `mix` multiplies the values with, on every architecture."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from acdc_engine.model.layers import Attention, Rotation
from acdc_engine.model.twins import BlockRecord, Record
from acdc_engine.model.view import TransformerView
from tests.micro_models import head_feeds_query
from tests.tiny_models import CONFIGS, random_prompts, relative, view

PROMPTS = random_prompts(n=4, pos=9, seed=3)
AT = torch.tensor([8, 3, 0, 6])


def of(model: TransformerView, record: Record, layer: int) -> BlockRecord:
    return record.of(model.graph, "attention", layer)


def record_of(model: TransformerView, tokens: Tensor = PROMPTS.clean) -> Record:
    record = Record(embed=model.embed(tokens))
    with torch.no_grad():
        model.run(record.embed, record, keep_inputs=True)
    return record


def layers_of(model: TransformerView) -> list[tuple[int, Attention, Rotation | None]]:
    rotations = model.rotations(PROMPTS.clean.shape[1])
    return [(i, layer.attention, rotations[i]) for i, layer in enumerate(model.layers)]


@pytest.mark.parametrize(
    ("name", "ungroup"), [*((name, False) for name in CONFIGS), ("llama_grouped", True), ("gemma3", True)]
)
def test_patterns_times_values_is_what_heads_mix(name: str, ungroup: bool) -> None:
    model = view(name, ungroup)
    record = record_of(model)
    everything = {i: range(model.shape.n_heads) for i in range(len(model.layers))}
    for layer, patterns in model.patterns(record, everything):
        attention, rotation = layers_of(model)[layer][1:]
        q, k, v = of(model, record, layer).inputs
        per_head = v.repeat_interleave(model.shape.n_heads // v.shape[2], 2).transpose(1, 2)
        ours = (patterns @ per_head).transpose(1, 2)
        assert relative(ours, attention.mix(q, k, v, rotation)) < 1e-5
        assert torch.allclose(patterns.sum(-1), torch.ones(()))
        assert not patterns.triu(1).any()


@pytest.mark.parametrize("name", CONFIGS)
def test_one_position_and_some_heads_are_rows_of_the_whole(name: str) -> None:
    """Order of the heads kept; also what a query that reads just what it reads anyway looks at."""
    model = view(name)
    record, rows = record_of(model), torch.arange(len(AT))
    for layer, attention, rotation in layers_of(model):
        q, k, _ = of(model, record, layer).inputs
        whole = attention.weights(q, k, rotation, range(4))
        at = q[rows, AT][:, None]
        some = attention.weights(at, k, rotation, [3, 1], AT[:, None])
        assert torch.allclose(some[:, :, 0], whole[rows, :, AT][:, [3, 1]], atol=1e-6)
        x = of(model, record, layer).x
        assert x is not None
        residual = x[rows, AT]
        row = model.layers[layer].pattern_row(2, residual, at, k, rotation, AT)
        assert torch.allclose(row, whole[rows, 2, AT], atol=1e-5)


@pytest.mark.parametrize("name", ["llama_grouped", "olmo2", "gpt2"])
def test_a_query_that_reads_something_else(name: str) -> None:
    """Against a layer run on another residual stream, in which only the one head's query is taken from it."""
    model = view(name)
    record, rows, layer = record_of(model), torch.arange(len(AT)), 1
    attention, rotation = layers_of(model)[layer][1:]
    q, k, _ = of(model, record, layer).inputs
    x = of(model, record, layer).x
    assert x is not None
    other = x + torch.randn(32, generator=torch.Generator().manual_seed(0))
    weight, bias = attention.w_q[2], None if attention.b_q is None else attention.b_q[2]
    moved = q.clone()
    moved[:, :, 2] = torch.nn.functional.linear(model.layers[layer].attention_norm(other), weight, bias)
    wanted = attention.weights(moved, k, rotation, [2])[rows, 0, AT]
    at = q[rows, AT][:, None]
    ours = model.layers[layer].pattern_row(2, other[rows, AT], at, k, rotation, AT)
    assert torch.allclose(ours, wanted, atol=1e-5)
    assert not torch.allclose(ours, attention.weights(q, k, rotation, [2])[rows, 0, AT])


def test_attention_that_is_not_causal_looks_everywhere() -> None:
    model, _ = head_feeds_query()
    record = record_of(model, torch.tensor([[0, 1, 2]]))
    free = replace(model.layers[1].attention, causal=False)
    q, k, v = of(model, record, 1).inputs
    weights = free.weights(q, k, None, [0])
    assert bool((weights > 0).all())
    assert torch.allclose((weights @ v.transpose(1, 2)).transpose(1, 2), free.mix(q, k, v, None))


def test_weights_worked_out_on_paper() -> None:
    """tests/micro_models.py: a1.h0 asks with ln 3 and is answered by the flag of token 0."""
    model, _ = head_feeds_query()
    (found,) = model.patterns(record_of(model, torch.tensor([[0, 1]])), {1: [0]})
    assert found[0] == 1
    assert torch.allclose(found[1], torch.tensor([[[[1.0, 0.0], [0.75, 0.25]]]]))


def test_half_precision_patterns_are_float32() -> None:
    model = view("gemma2")
    record = record_of(model)
    attention, rotation = layers_of(model)[0][1:]
    q, k, _ = of(model, record, 0).inputs
    weights = attention.weights(q.bfloat16(), k.bfloat16(), rotation, [0])
    assert weights.dtype == torch.float32
    assert torch.allclose(weights.sum(-1), torch.ones(()))
