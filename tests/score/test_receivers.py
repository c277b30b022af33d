"""Gradients at the receivers against autograd on a model whose inputs really are split, receiver by receiver."""

import pytest
import torch
from torch import Tensor

from acdc_engine.model.layers import read_positions
from acdc_engine.model.twins import Record
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.score import get_method, score_edges
from acdc_engine.score.contract import ReceiverGradients
from tests.patch.slow_twin import slow_run
from tests.tiny_models import METRIC, random_prompts, relative, view

SPLIT = ["gpt2", "llama_grouped", "qwen3", "gemma3", "olmo2", "phi", "mixtral", "granite"]


def split_gradients(v: TransformerView, prompts: PromptSet, embed: Tensor) -> list[Tensor]:
    """Autograd's gradient of the summed metric at every receiver's own input, in graph order."""
    run = slow_run(v, embed.detach().requires_grad_())
    logits = run.logits[torch.arange(len(prompts)), prompts.read_at]
    return list(torch.autograd.grad(METRIC(logits, prompts).sum(), run.inputs, materialize_grads=True))


@pytest.mark.parametrize("name", SPLIT)
@pytest.mark.parametrize("alphas", [(1.0,), (0.0, 0.4, 1.0)], ids=["one point", "three points"])
def test_expanded_gradients_are_those_at_split_inputs(name: str, alphas: tuple[float, ...]) -> None:
    v, prompts = view(name), random_prompts(3, 6)
    n, pos = prompts.clean.shape
    ours = ReceiverGradients(v, n, pos, points=len(alphas))
    wanted = [torch.zeros(n, pos, v.d_model)] * v.graph.n_receivers
    for alpha in alphas:
        embed = torch.lerp(v.embed(prompts.corrupt), v.embed(prompts.clean), alpha)
        record = Record(embed.detach().requires_grad_())
        final = v.run(record.embed, record, keep_inputs=True)
        ours.add(v, record, METRIC(v.unembed(read_positions(final, prompts.read_at)), prompts).sum())
        wanted = [a + b for a, b in zip(wanted, split_gradients(v, prompts, embed), strict=True)]

    for place, block in enumerate(v.graph.blocks):
        expanded = torch.full((len(block.feeds), n * pos, v.d_model), torch.nan)
        ours.blocks[place].expand(slice(None), slice(None), expanded, v.work)
        assert relative(expanded, torch.stack(wanted[block.reads]).flatten(1, 2)) < 1e-4
    assert relative(ours.logits, wanted[v.graph.logits]) < 1e-4


@pytest.mark.parametrize("name", SPLIT)
def test_scores_are_differences_times_split_gradients(name: str) -> None:
    """EAP spelt out: one dot product per edge."""
    v, prompts = view(name), random_prompts(3, 6)
    clean, corrupt = slow_run(v, v.embed(prompts.clean)), slow_run(v, v.embed(prompts.corrupt))
    gradients = split_gradients(v, prompts, v.embed(prompts.clean))
    wanted = torch.zeros(v.graph.n_senders, v.graph.n_receivers)
    for receiver in range(v.graph.n_receivers):
        for sender in v.graph.sources(receiver):
            change = clean.values[sender] - corrupt.values[sender]
            wanted[sender, receiver] = (change * gradients[receiver]).sum() / len(prompts)
    assert relative(score_edges(v, prompts, METRIC, get_method("eap")).mean, wanted) < 1e-4
