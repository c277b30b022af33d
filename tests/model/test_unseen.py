"""What a view would not see is refused, in every number format: adapters, hooks, replaced methods, unknown layers."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from acdc_engine.errors import UnsupportedModelError
from acdc_engine.model import bridge, load_model
from tests.tiny_models import VOCAB, hf_model, relative_distance

peft = pytest.importorskip("peft")
FORMATS = [torch.float32, torch.bfloat16, torch.float16]
ADAPTED = {"queries and values": ["q_proj", "v_proj"], "mlp": ["up_proj", "down_proj"], "embedding": ["embed_tokens"]}
TOKENS = torch.randint(0, VOCAB, (2, 9), generator=torch.Generator().manual_seed(1))


def adapted(targets: list[str], dtype: torch.dtype, scale: float = 1.0) -> Any:
    """A llama with LoRA of random numbers, which moves its logits by some percent."""
    torch.manual_seed(0)
    settings = peft.LoraConfig(target_modules=targets, r=4, lora_alpha=4 * scale, init_lora_weights=False)
    return peft.get_peft_model(hf_model("llama").to(dtype), settings).to(dtype).eval()


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("where", ADAPTED)
def test_unmerged_adapters_are_refused_and_merged_ones_computed(where: str, dtype: torch.dtype) -> None:
    model = adapted(ADAPTED[where], dtype)
    text = r"adapters .* not merged into its weights .*merge_and_unload\(\)"
    with pytest.raises(UnsupportedModelError, match=text):
        load_model(model.get_base_model())
    with torch.no_grad():
        plain, wanted = hf_model("llama").to(dtype)(TOKENS).logits, model(TOKENS).logits
    ours = load_model(model.merge_and_unload()).logits(TOKENS)
    rounding = {torch.float32: 1e-5, torch.bfloat16: 0.05, torch.float16: 0.01}[dtype]
    assert relative_distance(ours, wanted) < rounding < relative_distance(plain, wanted)


def test_adapters_switched_off_or_folded_in_for_a_while_are_refused_too() -> None:
    model = adapted(ADAPTED["mlp"], torch.float32)
    for change in (model.merge_adapter, model.disable_adapter_layers):
        change()
        with pytest.raises(UnsupportedModelError, match=r"merge_and_unload\(\)"):
            load_model(model.get_base_model())


@pytest.mark.parametrize("dtype", FORMATS)
def test_a_small_adapter_does_not_pass_the_comparison_either(dtype: torch.dtype, monkeypatch: Any) -> None:
    """Were the adapter not known by its parts: in half precision it is smaller than what rounding does to logits."""
    monkeypatch.setattr("acdc_engine.model.bridge.refuse_unseen", lambda name, model: None)
    model = adapted(ADAPTED["queries and values"], dtype, scale=0.05)
    with torch.no_grad():
        moved = relative_distance(model(TOKENS).logits, hf_model("llama").to(dtype)(TOKENS).logits)
    assert moved < 0.05
    with pytest.raises(UnsupportedModelError, match=r"does not reproduce its layer 0 .*float32"):
        load_model(model.get_base_model())


def steer(module: nn.Module, args: Any, output: Any) -> Any:
    """Adds a vector to what a module gives."""
    return (output[0] + 0.05, *output[1:]) if isinstance(output, tuple) else output + 0.05


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("where", ["model.layers.1", "model.layers.0.self_attn.q_proj", "model.embed_tokens", "model"])
def test_hooks_are_refused(where: str, dtype: torch.dtype) -> None:
    model = hf_model("llama").to(dtype)
    module = model.get_submodule(where)
    handles = [
        module.register_forward_hook(steer if where != "model" else lambda *inside: None),
        module.register_forward_pre_hook(lambda module, args: None),
    ]
    for handle in handles:
        with pytest.raises(UnsupportedModelError, match=rf"forward hooks are registered on {where},.*\.remove\(\)"):
            load_model(model)
        handle.remove()
    load_model(model)


def test_what_transformers_records_by_itself_is_no_obstacle() -> None:
    """transformers leaves hooks of its own in a model that was once asked for its hidden states."""
    model = hf_model("llama")
    model(TOKENS, output_hidden_states=True, output_attentions=True)
    assert model.model.layers[0]._forward_hooks
    before = dict(model.model.layers[0]._forward_hooks)
    load_model(model)
    assert dict(model.model.layers[0]._forward_hooks) == before


def test_the_comparison_leaves_no_hooks_and_weights_where_they_are() -> None:
    model = hf_model("llama").to(torch.bfloat16)
    places = [parameter.data_ptr() for parameter in model.parameters()]
    model.config._attn_implementation = "sdpa"
    load_model(model)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert places == [parameter.data_ptr() for parameter in model.parameters()]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.config._attn_implementation == "sdpa"


class Scaled(nn.Linear):
    """A linear layer that computes more than its weights say."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 1.01


PACKED = nn.Parameter(torch.ones(48, 32, dtype=torch.int8), requires_grad=False)


@pytest.mark.parametrize(
    ("where", "part", "value", "text"),
    [
        (
            "1.self_attn.v_proj",
            "lora_A",
            nn.Parameter(torch.ones(2, 32)),
            r"adapters .*model.layers.1.self_attn.v_proj",
        ),
        ("0.self_attn.k_proj", "__class__", Scaled, r"k_proj are linear layers or embeddings of a class of their own"),
        (
            "0.mlp.up_proj",
            "__class__",
            Scaled,
            r"model.layers.0.mlp.up_proj are linear layers or embeddings of a class",
        ),
        ("1", "forward", print, r"forward method of model.layers.1 was replaced on the object"),
        ("0.mlp.up_proj", "weight", PACKED, r"mlp.up_proj hold packed numbers"),
        ("1.mlp", "down_proj", nn.Linear(31, 32), "cannot be run on 12 tokens"),
    ],
)
def test_what_the_view_would_not_see_is_refused(where: str, part: str, value: Any, text: str) -> None:
    model = hf_model("llama").to(torch.bfloat16)
    setattr(model.model.layers.get_submodule(where), part, value)
    with pytest.raises(UnsupportedModelError, match=text):
        load_model(model)


def test_weights_that_are_not_in_memory_are_refused() -> None:
    model = hf_model("llama")
    model.model.layers[1].to("meta")
    with pytest.raises(UnsupportedModelError, match=r"weights of model.layers.1.* and 6 more are not in memory .*meta"):
        load_model(model)


def test_a_layer_offloaded_to_disk_is_refused(tmp_path: Any) -> None:
    import transformers

    hf_model("llama").save_pretrained(tmp_path / "model")
    names = ["model.embed_tokens", "lm_head", "model.norm", "model.rotary_emb", "model.layers.0"]
    places = {**dict.fromkeys(names, "cpu"), "model.layers.1": "disk"}
    model = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "model", device_map=places, offload_folder=tmp_path / "disk"
    )
    with pytest.raises(UnsupportedModelError, match=r"offloaded to disk by device_map.*on one device or with"):
        load_model(model)


@pytest.mark.parametrize("part", ["token embeddings", "layer 1", "final norm and unembedding"])
def test_every_part_is_compared(part: str, monkeypatch: Any) -> None:
    """A view with one part changed by less than the rounding of bfloat16 is refused, and the part is named."""
    check = bridge._check_same_function

    def changed(view: Any, hf_model: Any, layers: str) -> None:
        changes = {
            "token embeddings": {"embed": replace(view.embed, factor=1.002)},
            "layer 1": {"layers": (view.layers[0], replace(view.layers[1], write_scale=1.002))},
            "final norm and unembedding": {"logit_scale": 1.002},
        }
        check(replace(view, **changes[part]), hf_model, layers)

    monkeypatch.setattr("acdc_engine.model.bridge._check_same_function", changed)
    with pytest.raises(UnsupportedModelError, match=rf"does not reproduce its {part} \(relative difference 0.002"):
        load_model(hf_model("llama").to(torch.bfloat16))


def test_a_model_that_leaves_layers_out_is_refused() -> None:
    """Each layer that runs is as in the view, which would run the others too."""
    model = hf_model("llama")
    view = load_model(model)
    model.config.num_hidden_layers = len(view.layers) - 1
    with pytest.raises(UnsupportedModelError, match="does not run its 2 layers, each once in order"):
        load_model(model)
