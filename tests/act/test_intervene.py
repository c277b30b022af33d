"""Hooks on Hugging Face models against the engine's own runs, padding, cache and sampling; and that nothing is left."""

from typing import Any

import pytest
import torch
from torch import Tensor

from acdc_engine import Circuit, intervene
from acdc_engine.act.edited_run import EditedRuns
from acdc_engine.act.edits import Add, Edit, KnockOut, Mean, Patch, Scale
from acdc_engine.errors import AcdcError
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.ablations import ABLATIONS
from tests.tiny_models import CONFIGS, CORE, hf_model, random_prompts, relative, view

MIXED = ("gemma2", "gemma3", "olmo2", "olmo3")
PROMPTS = random_prompts(4, 6)
ROWS = tuple(map(tuple, PROMPTS.corrupt.tolist()))


def nodes_of(name: str) -> tuple[str, ...]:
    return ("m0", "m1") if name in MIXED else ("a0.h1", "a0.h2", "m0", "a1.h3")


@torch.no_grad()
def under(model: Any, edits: list[Edit], tokens: Tensor, **more: Any) -> Tensor:
    with intervene(model, edits):
        found: Tensor = model(tokens, **more).logits
    return found


@pytest.mark.parametrize("name", CORE)
def test_what_the_engine_says_when_all_edges_of_some_nodes_are_removed(name: str) -> None:
    v, model = view(name), hf_model(name)
    mask = v.graph.exists.clone()
    for node in nodes_of(name):
        mask[v.graph.sender_index(node)] = False
    made: dict[str, list[Edit]] = {
        "zero": [KnockOut(node=node) for node in nodes_of(name)],
        "mean": [Mean(node=node, prompts=ROWS) for node in nodes_of(name)],
        "patch": [Patch(node=node, prompts=ROWS) for node in nodes_of(name)],
    }
    for ablation, edits in made.items():
        ours = CircuitEvaluator(v, PROMPTS, ablation).logits(mask[None])[0]
        theirs = under(model, edits, PROMPTS.clean)[:, -1]
        assert relative(theirs, ours) < 2e-5, ablation
        assert relative(theirs, model(PROMPTS.clean).logits[:, -1]) > 1e-3, ablation
    longer = random_prompts(2, 9, seed=4)  # than the prompts that means are over
    reference = ABLATIONS.bound("mean")(v, PROMPTS, 16)
    ours = CircuitEvaluator(v, longer, "mean", reference=reference).logits(mask[None])[0]
    assert relative(under(model, made["mean"], longer.clean)[:, -1], ours) < 2e-5


@pytest.mark.parametrize("name", CONFIGS)
def test_factors_and_directions(name: str) -> None:
    v, direction = view(name), torch.randn(32, generator=torch.Generator().manual_seed(3))
    first, second, *_ = nodes_of(name)
    edits: list[Edit] = [
        Scale(node=first, factor=-1.5),
        Add(node=second, direction=tuple(direction.tolist()), factor=2.0),
    ]
    edits += [Scale(node=second, factor=0.5)]  # of what it then writes, where that is one thing
    change = {first: lambda x: -1.5 * x, second: lambda x: (x + 2 * direction) * 0.5}
    if second.startswith("a"):  # a head's is scaled before the direction is added behind the projection
        change[second] = lambda x: x * 0.5 + 2 * direction
    ours = v.unembed(EditedRuns(v, PROMPTS.clean, change).final(change))
    assert relative(under(hf_model(name), edits, PROMPTS.clean), ours) < 2e-5


def test_padding_on_either_side_and_patches_of_each_prompt() -> None:
    model, rows = hf_model("llama_grouped"), [[5, 6, 7, 8, 9], [11, 12, 13]]
    others: list[tuple[int, ...]] = [(21, 22, 7, 8, 9), (31, 32, 13)]
    alone = [
        under(model, [Patch(node="a0.h1", prompts=(other,)), Mean(node="m1", prompts=ROWS)], torch.tensor([row]))[0, -1]
        for row, other in zip(rows, others, strict=True)
    ]
    both: list[Edit] = [Patch(node="a0.h1", prompts=tuple(others)), Mean(node="m1", prompts=ROWS)]
    left = torch.tensor([rows[0], [0, 0, *rows[1]]]), torch.tensor([[1] * 5, [0, 0, 1, 1, 1]])
    right = torch.tensor([rows[0], [*rows[1], 0, 0]]), torch.tensor([[1] * 5, [1, 1, 1, 0, 0]])
    for (tokens, mask), ends in ((left, (-1, -1)), (right, (4, 2))):
        ids = (mask.cumsum(1) - 1).clamp(min=0)
        found = under(model, both, tokens, attention_mask=mask, position_ids=ids)
        for row, end in enumerate(ends):
            assert relative(found[row, end], alone[row]) < 2e-5
        with torch.no_grad(), intervene(model, both):  # the mask in its place, and the model inside
            assert torch.equal(model(tokens, mask, ids).logits, found)
            assert torch.equal(model.lm_head(model.model(tokens, mask, ids)[0]), found)
        swapped: Edit = Patch(node="a0.h1", prompts=tuple(reversed(others)))
        with pytest.raises(AcdcError, match="one of 3 would stand in for one of 5"), intervene(model, [swapped]):
            model(tokens, mask)
    with pytest.raises(AcdcError, match="2 prompts are patched into a batch of 3"), intervene(model, both):
        model(torch.ones(3, 5, dtype=torch.long))


@pytest.mark.parametrize("name", ["gpt2", "llama_grouped", "mixtral"])
def test_cache_and_sampling_go_on_as_without_a_cache(name: str) -> None:
    """New tokens are behind the patched prompt and take the mean behind the prompts that it is of."""
    model, tokens = hf_model(name), PROMPTS.clean[:2]
    edits: list[Edit] = [Patch(node="a0.h1", prompts=ROWS[:2]), Mean(node="a1.h0", prompts=ROWS), KnockOut(node="m1")]
    how: dict[str, Any] = {"max_new_tokens": 6, "do_sample": True, "num_return_sequences": 3, "pad_token_id": 0}
    how |= {"attention_mask": torch.ones_like(tokens), "eos_token_id": None}
    made = []
    for cached in (True, False):  # without a cache a prompt grows from call to call, and a patch would not fit it
        torch.manual_seed(5)
        with intervene(model, edits[1:]):
            made.append(model.generate(tokens, use_cache=cached, **how))
    assert torch.equal(*made) and made[0].shape == (6, 12)
    with intervene(model, edits):
        torch.manual_seed(5)
        patched = model.generate(tokens, output_logits=True, return_dict_in_generate=True, **how)
    assert relative(patched.logits[0][0], under(model, edits, tokens)[0, -1]) < 2e-5
    with torch.no_grad(), intervene(model, edits):
        past = model(tokens, use_cache=True).past_key_values
    behind = under(model, edits[1:], patched.sequences[::3, 6:7], past_key_values=past)[:, -1]  # nothing patched there
    assert relative(patched.logits[1][::3], behind) < 2e-5


def hooks_of(model: Any) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())


def test_nothing_is_left_behind() -> None:
    model, direction = hf_model("gpt2"), (1.0,) * 32
    edits: list[Edit] = [Mean(node="a0.h0", prompts=ROWS), KnockOut(node="m1"), Add(node="m0", direction=direction)]
    plain, weights = model(PROMPTS.clean).logits, {key: value.clone() for key, value in model.state_dict().items()}
    with intervene(model, edits):
        assert hooks_of(model) == 4
        with intervene(model, [Scale(node="a0.h0", factor=0.0)]):
            inner = model(PROMPTS.clean).logits
        assert relative(inner, model(PROMPTS.clean).logits) > 1e-3
    with pytest.raises(ZeroDivisionError), intervene(model, edits):
        _ = 1 / 0
    with pytest.raises(AcdcError), intervene(model, [*edits, KnockOut(node="m7")]):
        pass
    wrong: Any = Patch(node="a0.h0", prompts=((1, 2, 3),))
    with pytest.raises(AcdcError, match="one of 3 would stand in for one of 6"), intervene(model, [wrong]):
        model(PROMPTS.clean)
    assert hooks_of(model) == 0 and torch.equal(model(PROMPTS.clean).logits, plain)
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    model(PROMPTS.clean).logits.sum().backward()
    seen = list[Tensor]()
    model.transformer.h[1].mlp.register_forward_hook(lambda module, args, output: seen.append(output))
    with intervene(model, edits):
        model(PROMPTS.clean).logits.sum().backward()
    assert seen[-1].any()  # what another hook holds of m1 stays as it was


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (KnockOut(node="a0.h7"), "No sender 'a0.h7': .*0 to 3.*Did you mean"),
        (KnockOut(node="a9.h0"), "No sender 'a9.h0'"),
        (KnockOut(node="input"), "What the input writes is the prompt: run another prompt"),
        (KnockOut(node="logits"), "No sender 'logits': the logits only receive"),
        (
            Add(node="m0", direction=(1.0, 2.0)),
            "The direction added at m0 has 2 numbers, and the residual stream of .* has 32",
        ),
        (Mean(node="m0", prompts=((3, 99),)), "has the token 99, and the model's are 0 to 60"),
    ],
)
def test_edits_that_cannot_be(edit: Any, message: str) -> None:
    model = hf_model("llama")
    with pytest.raises(AcdcError, match=message), intervene(model, [edit]):
        pass
    assert hooks_of(model) == 0


def test_models_that_cannot_be_hooked() -> None:
    compiled, quantized = torch.compile(hf_model("llama")), hf_model("llama")
    quantized.config.quantization_config = {"quant_method": "bitsandbytes"}
    in_place = hf_model("llama")
    in_place.compile()
    cases = (
        (compiled, "is compiled, and compiled code calls no hooks"),
        (in_place, "is compiled, and compiled code calls no hooks"),
        (quantized, r"holds packed numbers \(a quantized model\)"),
        (view("llama"), "not on an object of type TransformerView. What load_model gives is no such model"),
    )
    for model, message in cases:
        with pytest.raises(AcdcError, match=message), intervene(model, [KnockOut(node="m0")]):
            pass
    with pytest.raises(AcdcError, match=r"a norm behind the attention mixes what a layer's heads write, so a0\.h1"):
        under(hf_model("gemma3"), [KnockOut(node="a0.h1")], PROMPTS.clean)
    with pytest.raises(AcdcError, match="There are no edits"), intervene(hf_model("llama"), []):
        pass


def test_a_circuit_says_what_is_to_go_and_what_is_to_stay() -> None:
    v = view("llama")
    circuit = Circuit.from_edges(v, ["input->a0.h1<v>", "a0.h1->m1", "m1->logits"])
    assert circuit.knockout() == (KnockOut(node="a0.h1"), KnockOut(node="m1"))
    others = {edit.node for edit in circuit.only()}
    assert others == set(v.graph.senders) - {"input", "a0.h1", "m1"}
    (edit, _) = circuit.knockout(mean=PROMPTS.corrupt.tolist())
    assert edit == Mean(node="a0.h1", prompts=ROWS)
    model = hf_model("llama")
    assert (
        relative(
            under(model, list(circuit.only()), PROMPTS.clean), under(model, list(circuit.knockout()), PROMPTS.clean)
        )
        > 0.1
    )
