"""GIM: by hand, and against autograd on a split model whose derivatives are replaced one by one, as its authors do."""

from math import sqrt
from typing import Any

import pytest
import torch
from torch import Tensor

from acdc_engine.errors import MethodError, MetricError
from acdc_engine.model.layers import Layer, Norm
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.score import get_method, score_edges
from acdc_engine.score.gim import linearised
from tests.micro_models import LN3, copying_head, edge_values, shared_values
from tests.patch import slow_twin
from tests.score.test_receivers import split_gradients
from tests.tiny_models import CONFIGS, METRIC, random_prompts, relative, view

UNGATED = ("gpt2", "gpt_neox", "gpt_neox_sequential", "phi", "starcoder2")


def test_copying_head_by_hand() -> None:
    """As EAP (tests/score/test_micro_models.py) but for halves, and the slope at half the scores: odds of sqrt 3 to 1.

    Values: half of 9. Keys: a quarter of 8 ln 3 times p (1 - p).
    """
    v, prompts = copying_head()
    slope = sqrt(3) / (1 + sqrt(3)) ** 2
    wanted = {"a0.h0->logits": 8, "input->a0.h0<v>": 4.5, "input->a0.h0<k>": 2 * LN3 * slope}
    assert edge_values(v, score_edges(v, prompts, METRIC, get_method("gim")).mean) == pytest.approx(wanted, abs=1e-5)
    own = score_edges(v, prompts, METRIC, get_method("gim", temperature=1.0))
    assert edge_values(v, own.mean)["input->a0.h0<k>"] == pytest.approx(0.375 * LN3, abs=1e-5)
    assert own.settings == {"alphas": [1.0], "temperature": 1.0}


def test_shared_values_by_hand() -> None:
    """Of what EAP finds only the values are halved: the MLP has no gate."""
    v, prompts = shared_values()
    ours, eap = (edge_values(v, score_edges(v, prompts, METRIC, get_method(name)).mean) for name in ("gim", "eap"))
    assert ours == pytest.approx({**eap, "input->a0.kv0<v>": 6}, abs=1e-5)


class _Share(torch.autograd.Function):
    """The same, with a share of the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, share: float) -> Tensor:
        ctx.share = share
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.share, None


class _SofterSlope(torch.autograd.Function):
    """Softmax, differentiated at half of its scores."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        ctx.save_for_backward(scores)
        return scores.softmax(-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        p: Tensor = (ctx.saved_tensors[0] / 2).softmax(-1)
        return p * (gradients[0] - (gradients[0] * p).sum(-1, keepdim=True))


share: Any = _Share.apply
softer_slope: Any = _SofterSlope.apply


def frozen(norm: Norm, x: Tensor) -> Tensor:
    if norm.kind == "none":
        return x
    x = x - x.mean(-1, keepdim=True) if norm.kind == "layer" else x
    x = x / torch.sqrt((x * x).mean(-1, keepdim=True) + norm.eps).detach()
    x = x if norm.weight is None else x * norm.weight
    return x if norm.bias is None else x + norm.bias


def attend(v: TransformerView, index: int, q: Tensor, k: Tensor, values: Tensor) -> Tensor:
    own = v.layers[index].attention
    q, k, values = share(q, 0.25), share(k, 0.25), share(values, 0.5)
    if own.rotate is not None:
        q, k = slow_twin._rotate(v, index, q), slow_twin._rotate(v, index, k)
    scores = q @ k.transpose(-1, -2) * own.scale
    scores = scores if own.softcap is None else own.softcap * torch.tanh(scores / own.softcap)
    back = torch.arange(q.shape[1])[:, None] - torch.arange(q.shape[1])
    seen = (back >= 0) & (back < (own.window or q.shape[1]))
    weights: Tensor = softer_slope(scores.masked_fill(~seen, -torch.inf))
    return weights @ values


def share_of_write(layer: Layer, total: Tensor, own: Tensor) -> Tensor:
    post = layer.attention_post
    if post is not None:
        own = own / torch.sqrt((total * total).mean(-1, keepdim=True) + post.eps).detach()
        own = own if post.weight is None else own * post.weight
    return own * layer.write_scale


def mlp(layer: Layer, x: Tensor) -> Tensor:
    inner: Any = layer.mlp
    x = frozen(layer.mlp_norm, x)
    if hasattr(inner, "gate_proj"):
        gate, up = (share(part(x), 0.5) for part in (inner.gate_proj, inner.up_proj))
        out = inner.down_proj(inner.act_fn(gate) * up)
    else:
        out = inner(x)
    out = out if layer.mlp_post is None else frozen(layer.mlp_post, out)
    written: Tensor = out * layer.write_scale
    return written


@pytest.mark.parametrize(
    "name", ["gpt2", "llama_grouped", "mistral", "qwen3", "gemma2", "gemma3", "olmo2", "phi", "granite"]
)
def test_scores_are_differences_times_gradients_of_the_slow_twin(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    v, prompts = view(name), random_prompts(3, 6)
    clean, corrupt = (slow_twin.slow_run(v, v.embed(one)).values for one in (prompts.clean, prompts.corrupt))
    for part, ours in {"normalize": frozen, "_attend": attend, "_write": share_of_write, "_mlp": mlp}.items():
        monkeypatch.setattr(slow_twin, part, ours)
    gradients = split_gradients(v, prompts, v.embed(prompts.clean))
    wanted = torch.zeros(v.graph.n_senders, v.graph.n_receivers)
    for sender, receiver in v.graph.exists.nonzero().tolist():
        wanted[sender, receiver] = ((clean[sender] - corrupt[sender]) * gradients[receiver]).sum() / len(prompts)
    assert relative(score_edges(v, prompts, METRIC, get_method("gim")).mean, wanted) < 1e-4


@pytest.mark.parametrize("name", CONFIGS)
def test_values_are_the_models_and_queries_and_keys_score(name: str) -> None:
    v, prompts = view(name), random_prompts(3, ragged=True)
    other = linearised(v, 2.0)
    assert relative(other.logits(prompts.clean), v.logits(prompts.clean)) < 1e-5
    scores = score_edges(v, prompts, METRIC, get_method("gim"), per_example=True)
    assert all(bool(scores.mean[:, v.graph.part(1, part)].any()) for part in "qkv")
    assert scores.per_example is not None
    for i in range(len(prompts)):  # padding and batches change nothing
        alone = score_edges(v, prompts.select([i]), METRIC, get_method("gim")).mean
        assert relative(scores.per_example[i], alone) < 1e-4


@pytest.mark.parametrize("name", CONFIGS)
def test_the_gradient_of_a_gated_mlp_is_halved(name: str) -> None:
    v, x = view(name), torch.randn(1, 3, 32, requires_grad=True)
    outs = [one.layers[0].mlp(x) for one in (linearised(v, 2.0), v)]  # type: ignore[misc]
    outs = [out[0] if isinstance(out, tuple) else out for out in outs]
    assert torch.equal(*outs)
    ours, own = (torch.autograd.grad(out.sum(), x)[0] for out in outs)
    assert relative(ours, own * (1.0 if name in UNGATED else 0.5)) < 1e-6


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "llama_grouped"])
def test_what_comes_before_the_first_change_does_not_matter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    v, prompts = view(name), random_prompts(5, 9, ragged=True)
    prompts.corrupt[:, :5] = prompts.clean[:, :5]
    prompts.corrupt[:, 5] = (prompts.clean[:, 5] + 3) % 40
    late = score_edges(v, prompts, METRIC, get_method("gim"), batch_size=3).mean
    monkeypatch.setattr(TransformerView, "first_change", lambda *_: 0)
    assert relative(late, score_edges(v, prompts, METRIC, get_method("gim"), batch_size=3).mean) < 1e-5


def test_what_cannot_be_asked_for() -> None:
    with pytest.raises(MethodError, match=r"temperature of gim must be above 0 and finite, not 0\.0"):
        get_method("gim:temperature=0")
    with pytest.raises(MethodError, match="Method 'gim' takes no steps or alphas; use 'eap-ig'"):
        get_method("gim", steps=5)
    with pytest.raises(MethodError, match="'eap-ig-path' has no parameter 'alphas'"):
        get_method("eap-ig-path", alphas=[0.5])
    with pytest.raises(MetricError, match="zero gradient at the clean run, the only point where 'gim' looks"):
        score_edges(view("gpt2"), random_prompts(1), get_metric("kl"), get_method("gim"))
