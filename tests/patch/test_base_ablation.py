"""The base model's run as what removed edges carry: against the slow twin, on models whose weights differ in places."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from acdc_engine.errors import DeviceError, MethodError, ModelError
from acdc_engine.graph.connectivity import CleanBase, clean
from acdc_engine.model.bridge import view_of
from acdc_engine.model.devices import Room
from acdc_engine.model.pair import against, beside, changed_senders
from acdc_engine.model.view import TransformerView
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.evaluator import Variants
from acdc_engine.patch.mask_scores import mask_scores
from tests.patch.slow_twin import slow_run
from tests.tiny_models import METRIC, hf_model, random_mask, random_prompts, relative, view

PROMPTS = random_prompts(4)
PARTS = {"gpt2": ("h.1.attn.c_attn", "h.0.mlp"), "llama_grouped": ("layers.1.self_attn.o_proj", "layers.0.mlp")}
"""Parts of models that are changed; of others everything is."""


def tuned_view(name: str, parts: tuple[str, ...] | None = None, double: bool = False) -> TransformerView:
    """A model some of whose weights are moved by a fifth of themselves."""
    model: Any = hf_model(name)
    torch.manual_seed(1)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if parts is None or any(part in key for part in parts):
                weight.add_(0.2 * weight.std() * torch.randn_like(weight)) if weight.dim() > 1 else weight.mul_(1.1)
    return view_of(model.double() if double else model, name)


def pair_of(name: str, parts: tuple[str, ...] | None = None) -> TransformerView:
    return against(tuned_view(name, parts), view(name))


def slow_values(pair: TransformerView, mask: Tensor) -> Tensor:
    """Logits, node by node: where no edge is kept, what the base model's sender writes."""
    assert pair.base is not None
    plain = replace(pair, own_graph=None)
    with torch.no_grad():
        removed = slow_run(pair.base, pair.base.embed(PROMPTS.clean)).values
        nothing = slow_run(plain, removed[0], torch.zeros_like(mask), removed)
        run = slow_run(plain, plain.embed(PROMPTS.clean), mask, removed, nothing)
    return run.logits[torch.arange(len(PROMPTS)), PROMPTS.read_at]


@pytest.mark.parametrize(
    ("name", "parts"),
    [*((name, None) for name in ("gpt2", "llama_grouped", "gemma3", "olmo2", "gpt_neox", "granite")), *PARTS.items()],
)
def test_circuits_equal_the_slow_twin(name: str, parts: tuple[str, ...] | None) -> None:
    pair = pair_of(name, parts)
    evaluator, graph = CircuitEvaluator(pair, PROMPTS, "base"), pair.graph
    masks = [clean(graph, random_mask(graph, share, seed)) for seed, share in enumerate((0.1, 0.4, 0.8))]
    masks += [torch.zeros_like(graph.exists), clean(graph, graph.exists)]
    wanted = torch.stack([slow_values(pair, mask) for mask in masks])
    assert relative(evaluator.logits(torch.stack(masks)), wanted) < 1e-4
    near = Variants.of(masks[2], torch.stack([masks[2] & masks[1], masks[2] & ~masks[0]]))
    again = torch.stack([slow_values(pair, clean(graph, mask)) for mask in near.masks()])
    assert relative(evaluator.logits(near), again) < 1e-4


@pytest.mark.parametrize("name", ["gpt2", "llama_grouped"])
def test_all_edges_are_the_tuned_model_and_none_the_base_models_writes_read_by_it(name: str) -> None:
    pair = pair_of(name, PARTS[name])
    assert pair.base is not None
    evaluator = CircuitEvaluator(pair, PROMPTS, "base")
    read = torch.arange(len(PROMPTS)), PROMPTS.read_at
    assert relative(evaluator.clean_logits(), pair.logits(PROMPTS.clean)[read]) < 1e-5
    none = evaluator.ablated_logits()
    # Neither output biases nor what reads the logits are changed here, so that nothing kept is the base model.
    assert relative(none, pair.base.logits(PROMPTS.clean)[read]) < 1e-4
    assert relative(evaluator.logits(torch.zeros_like(pair.graph.exists)[None])[0], none) < 1e-5
    assert relative(evaluator.logits(pair.graph.exists[None])[0], evaluator.clean_logits()) < 1e-4


def test_paths_begin_where_weights_differ() -> None:
    pair = pair_of("llama_grouped", ("layers.1.self_attn.o_proj", "layers.0.self_attn.k_proj"))
    graph = pair.graph
    names = [graph.senders[place] for place in graph.origins.nonzero()[0]]
    assert names == [f"a{layer}.h{head}" for layer in (0, 1) for head in range(4)]
    kept = torch.zeros_like(graph.exists)
    for edge in ("input->m0", "m0->logits", "a0.h1->m0", "m0->a1.h0<q>", "a1.h0->logits", "input->logits"):
        kept[graph.parse_edge(edge)] = True
    cleaned = clean(graph, kept)
    assert int(cleaned.sum()) == 4 and not cleaned[graph.INPUT].any()
    flat = [sender * graph.n_receivers + receiver for sender, receiver in cleaned.nonzero().tolist()]
    for edge in flat:
        lost = CleanBase(graph, cleaned).without([edge]).remove
        left = cleaned.clone().flatten()
        left[torch.from_numpy(lost)] = False
        one = cleaned.clone().flatten()
        one[edge] = False
        assert torch.equal(left.view_as(kept), clean(graph, one.view_as(kept)))


@pytest.mark.parametrize(
    ("name", "part", "rows", "origins"),
    [
        ("llama", "layers.1.self_attn.q_proj.weight", slice(8, 16), "a1.h1"),  # heads are of width 8
        ("gpt2", "h.1.attn.c_attn.bias", slice(8, 16), "a1.h1"),
        ("llama_grouped", "layers.1.self_attn.v_proj.weight", slice(8, 16), "a1.h2 a1.h3"),
        ("olmo2", "layers.1.self_attn.o_proj.weight", (slice(None), slice(8, 16)), "a1.h0 a1.h1 a1.h2 a1.h3"),
        ("gpt2", "h.1.ln_1.weight", slice(None), "a1.h0 a1.h1 a1.h2 a1.h3"),
        ("gpt2", "h.0.attn.c_proj.bias", slice(None), "m0 a1.h0 a1.h1 a1.h2 a1.h3 m1"),
        ("gpt_neox", "layers.0.attention.dense.bias", slice(None), "a1.h0 a1.h1 a1.h2 a1.h3 m1"),
        ("gpt2", "h.1.ln_2.weight", slice(None), "m1"),
        ("llama", "embed_tokens.weight", slice(None), "input"),
    ],
)
def test_what_is_changed_by_itself(name: str, part: str, rows: Any, origins: str) -> None:
    """A head, the heads of a group, all of a layer whose norms couple them, what an output bias lies before."""
    model: Any = hf_model(name)
    with torch.no_grad():
        dict(model.named_parameters())[next(key for key, _ in model.named_parameters() if key.endswith(part))][
            rows
        ] += 0.1
    changed = changed_senders(view_of(model, name), view(name))
    assert [view(name).graph.senders[place] for place in changed.nonzero()[0]] == origins.split()


def test_mask_scores_are_gradients_of_the_exact_run_and_add_up() -> None:
    base = view_of(hf_model("llama").double(), "llama")
    pair = against(tuned_view("llama", double=True), base)
    evaluator = CircuitEvaluator(pair, PROMPTS, "base")
    scores = mask_scores(pair, PROMPTS, METRIC, "base", steps=40)
    logits = evaluator.clean_logits()
    ends = [float(METRIC(end, PROMPTS, logits).mean()) for end in (evaluator.ablated_logits(), logits)]
    assert abs(float(scores.mean.sum()) - (ends[1] - ends[0])) < 0.01 * abs(ends[1] - ends[0])
    one = mask_scores(pair, PROMPTS, METRIC, "base", steps=1).mean
    for u, r in pair.graph.exists.nonzero()[::60].tolist():
        values = []
        for sign in (1, -1):
            weights = 0.5 * pair.graph.exists.double()
            weights[u, r] += sign * 1e-4
            values.append(float(evaluator.differentiated(weights, METRIC)[0].mean()))
        assert abs(float(one[u, r]) - (values[0] - values[1]) / 2e-4) < 1e-4


def test_both_models_have_room_on_the_device() -> None:
    one, other = tuned_view("llama"), view("llama")
    assert beside(one, other) is one, "on a CPU pieces are small in any case"
    one = replace(one, memory=40 * one.weights_bytes)
    assert beside(one, other).room == Room.on(one.device, one.weights_bytes, 39 * one.weights_bytes)
    with pytest.raises(DeviceError, match=r"The weights take"):
        beside(replace(one, memory=2 * one.weights_bytes), other)


def test_models_that_cannot_be_compared() -> None:
    with pytest.raises(ModelError, match=r"differ in architecture .*Give a model and what tuning made of it"):
        against(view("gpt2"), view("llama"))
    with pytest.raises(ModelError, match=r"differ in n_kv_heads 2 and 4\. Give"):
        against(replace(view("llama"), architecture="x"), replace(view("llama_grouped"), architecture="x"))
    with pytest.raises(
        ModelError, match=r"weights of 'llama' and 'llama' are the same, so there is nothing to compare"
    ):
        against(view("llama"), view_of(hf_model("llama"), "llama"))
    with pytest.raises(MethodError, match=r"Under base ablation .* and none is given: acdc diff"):
        CircuitEvaluator(view("llama"), PROMPTS, "base")
    with pytest.raises(MethodError, match=r"for ablation 'base' alone, not 'patch'"):
        CircuitEvaluator(pair_of("llama"), PROMPTS, "patch")
    from acdc_engine.model.small_model import WordTokenizer

    words = [
        replace(one, tokenizer=WordTokenizer(text, None))
        for one, text in ((tuned_view("llama"), ["a", "b"]), (view("llama"), ["b", "a"]))
    ]
    with pytest.raises(ModelError, match=r"the tokenizers of 'llama' and 'llama' are different"):
        against(*words)
