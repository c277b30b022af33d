"""The exact intervention against the slow twin, and against plain forward hooks on a Hugging Face model."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from acdc_engine.graph.connectivity import clean
from acdc_engine.patch import CircuitEvaluator
from tests.patch.slow_twin import slow_logits, slow_run
from tests.tiny_models import hf_model, random_mask, random_prompts, relative, view

TWINNED = ["gpt2", "gpt_neox", "llama_grouped", "gemma2", "gemma3", "olmo2", "phi", "mixtral", "qwen3", "granite"]


@pytest.mark.parametrize("name", TWINNED)
def test_the_twin_computes_what_hugging_face_computes(name: str) -> None:
    tokens = random_prompts(2, 6).clean
    with torch.no_grad():
        theirs = hf_model(name)(tokens).logits
        assert relative(slow_run(view(name), view(name).embed(tokens)).logits, theirs) < 1e-5


@pytest.mark.parametrize("name", TWINNED)
@pytest.mark.parametrize("ablation", ["patch", "mean", "zero"])
def test_random_masks(name: str, ablation: str) -> None:
    v, prompts = view(name), random_prompts(3, 6)
    some = [random_mask(v.graph, share, seed) for share, seed in ((0.15, 11), (0.5, 12), (0.8, 13))]
    masks = clean(v.graph, torch.stack(some))
    assert masks.flatten(1).any(1).all()
    ours = CircuitEvaluator(v, prompts, ablation).logits(masks)
    for mask, row in zip(masks, ours, strict=True):
        assert relative(row, slow_logits(v, prompts, mask, ablation)) < 2e-5


@pytest.mark.parametrize("name", ["llama_grouped", "gemma3", "olmo2", "phi"])
@settings(max_examples=10, deadline=None)
@given(share=st.floats(0.05, 0.95), seed=st.integers(0, 10_000))
def test_any_mask(name: str, share: float, seed: int) -> None:
    v, prompts = view(name), random_prompts(2, 5, seed)
    mask = clean(v.graph, random_mask(v.graph, share, seed))
    ours = CircuitEvaluator(v, prompts).logits(mask[None])[0]
    assert relative(ours, slow_logits(v, prompts, mask)) < 2e-5


@pytest.mark.parametrize(("part", "head"), [("q", 2), ("k", 1), ("v", 0)])
def test_one_edge_by_forward_hooks_on_hugging_face(part: str, head: int) -> None:
    """Path patching of a0.h1 -> one q, k or v of layer 1, without any of the engine's code.

    Into the corrupt run: the receiver reads the corrupt residual stream plus a0.h1's change; all else follows. As a
    mask: all of a0.h1's inputs, the edge, and everything behind layer 1's attention.
    Out of the clean run: it reads the clean residual stream without the change. As a mask: all edges but one.
    """
    v, prompts = view("llama_grouped"), random_prompts(4, 7)
    graph = v.graph
    receiver = f"a1.{'h' if part == 'q' else 'kv'}{head}<{part}>"
    edge = graph.parse_edge(f"a0.h1->{receiver}")
    change = _head_write(prompts.clean) - _head_write(prompts.corrupt)
    into_corrupt = _run_with_receiver_moved(prompts.corrupt, part, head, change)
    out_of_clean = _run_with_receiver_moved(prompts.clean, part, head, -change)

    only = torch.zeros_like(graph.exists)
    only[graph.INPUT, graph.block("attention", 0).reads] = True
    only[edge] = True
    behind = [graph.block("mlp", 1).reads.start, graph.logits]
    for sender in (*range(graph.heads(1).start, graph.heads(1).stop), graph.block("mlp", 1).writes.start):
        only[sender, behind] = graph.exists[sender, behind]
    but_one = graph.exists.clone()
    but_one[edge] = False
    ours = CircuitEvaluator(v, prompts).logits(torch.stack([only, but_one]))
    assert relative(ours[0], into_corrupt) < 1e-5
    assert relative(ours[1], out_of_clean) < 1e-5
    with torch.no_grad():
        assert relative(into_corrupt, hf_model("llama_grouped")(prompts.corrupt).logits[:, -1]) > 1e-3, "it does move"


@torch.no_grad()
def _head_write(tokens: Tensor) -> Tensor:
    """What a0.h1 writes: its slice of what the output projection reads, times its columns."""
    model = hf_model("llama_grouped")
    seen: list[Tensor] = []
    o_proj = model.model.layers[0].self_attn.o_proj
    o_proj.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model(tokens)
    d_head = model.config.head_dim
    return F.linear(seen[0][..., d_head : 2 * d_head], o_proj.weight[:, d_head : 2 * d_head])


@torch.no_grad()
def _run_with_receiver_moved(tokens: Tensor, part: str, head: int, change: Tensor) -> Tensor:
    """Last logits when one head's q, k or v of layer 1 reads the residual stream plus a change."""
    model = hf_model("llama_grouped")
    layer = model.model.layers[1]
    projection = getattr(layer.self_attn, f"{part}_proj")
    rows = slice(head * model.config.head_dim, (head + 1) * model.config.head_dim)
    residual: list[Tensor] = []
    layer.input_layernorm.register_forward_pre_hook(lambda module, args: residual.append(args[0]))

    def move(module: object, args: tuple[Tensor], out: Tensor) -> Tensor:
        if len(residual) == 1:
            moved = layer.input_layernorm(residual[0] + change)
            out = out.clone()
            out[..., rows] = F.linear(moved, projection.weight[rows])
        return out

    projection.register_forward_hook(move)
    logits: Tensor = model(tokens).logits
    return logits[:, -1]
