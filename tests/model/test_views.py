"""The residual-stream view computes what the model computes, for every architecture, and leaves the model alone."""

from typing import Any

import pytest
import torch
import transformers as hf

from acdc_engine.errors import ScoreError, UnsupportedModelError
from acdc_engine.model.bridge import view_of
from acdc_engine.model.twins import Record
from tests.tiny_models import CONFIGS, VOCAB, hf_model, relative, relative_distance, view


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_equal_hugging_face(name: str) -> None:
    model = hf_model(name)
    tokens = torch.randint(0, VOCAB, (3, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        theirs = model(tokens).logits
    before = {key: type(module) for key, module in model.named_modules()}
    ours = view_of(model, name).logits(tokens)
    assert relative(ours, theirs) < 1e-5
    assert {key: type(module) for key, module in model.named_modules()} == before
    assert all(parameter.requires_grad for parameter in model.parameters())
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, theirs), "the user's model still works as before"


@pytest.mark.parametrize("name", CONFIGS)
def test_senders_add_up_to_the_residual_stream(name: str) -> None:
    v = view(name)
    tokens = torch.randint(0, VOCAB, (2, 7), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        record = Record(v.embed(tokens))
        final = v.run(record.embed, record)
        total = record.embed.clone()
        for index, layer in enumerate(v.layers):
            total += torch.einsum("hnpe,hed->npd", record.of(v.graph, "attention", index).values, layer.effective_w_o)
            if layer.attention.b_o is not None:
                total += layer.attention.b_o * layer.write_scale
            total += record.of(v.graph, "mlp", index).values[0]
    assert relative(total, final) < 1e-5


@pytest.mark.parametrize("name", ["llama_grouped", "qwen3", "gemma3", "gpt2"])
def test_ungrouping_keys_and_values_changes_the_graph_but_not_the_function(name: str) -> None:
    native, ungrouped = view(name), view(name, ungroup_kv=True)
    tokens = torch.arange(1, 8)[None]
    assert relative(ungrouped.logits(tokens), native.logits(tokens)) < 1e-5
    assert ungrouped.shape.n_kv_heads == ungrouped.shape.n_heads == 4
    assert ungrouped.kv_copies * native.shape.n_kv_heads == 4 and view("llama", ungroup_kv=True).kv_copies == 1


EXPERTS = ("mixtral", "qwen2_moe", "olmoe")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("name", CONFIGS)
def test_half_precision_loads_and_equals_the_model_up_to_rounding(name: str, dtype: torch.dtype) -> None:
    """Dense models: at most .05 in bfloat16, .01 in float16 (measured .020 and .003); experts can flip."""
    model = hf_model(name).to(dtype)
    tokens = torch.randint(0, VOCAB, (3, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        theirs = model(tokens).logits
    v = view_of(model, name)
    assert v.dtype == dtype
    bound = (0.05 if dtype == torch.bfloat16 else 0.01) * (2 if name in EXPERTS else 1)
    assert relative_distance(v.logits(tokens), theirs) < bound


def test_the_matrix_has_24_architectures() -> None:
    assert len(CONFIGS) >= 24


_SMALL: dict[str, Any] = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (hf.BloomConfig(vocab_size=VOCAB, hidden_size=32, n_layer=2, n_head=4), "ALiBi"),
        (hf.GPTJConfig(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, rotary_dim=4), "rotary tables live inside"),
        (hf.OPTConfig(**_SMALL, ffn_dim=64, word_embed_proj_dim=32), "MLP is not a module of its own"),
        (hf.GptOssConfig(**_SMALL, num_local_experts=2, intermediate_size=16, head_dim=8), "sinks"),
        (hf.MambaConfig(vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2), "recurrence"),
    ],
    ids=lambda value: getattr(value, "model_type", None),
)
def test_unsupported_models_are_refused_by_name_and_reason(config: hf.PretrainedConfig, reason: str) -> None:
    model = hf.AutoModelForCausalLM.from_config(config)
    with pytest.raises(UnsupportedModelError, match=reason) as caught:
        view_of(model, "my-model")
    assert "'my-model'" in str(caught.value) and config.model_type in str(caught.value)
    assert "Supported are" in str(caught.value)


@pytest.mark.parametrize("name", ["gpt2", "gemma3", "olmo2"])
def test_every_weight_counts_in_the_hash(name: str) -> None:
    """Same weights, same hash; any single tensor of the model changed, another hash."""
    model = hf_model(name)
    whole = view_of(model, name).weights_hash()
    assert view_of(hf_model(name), "other name").weights_hash() == whole
    for key, parameter in model.named_parameters():
        if ".0." in key:
            continue  # the second layer stands for both
        before = parameter.data.clone()
        with torch.no_grad():
            parameter.view(-1)[-1] += 1
        assert view_of(model, name).weights_hash() != whole, key
        parameter.data.copy_(before)


def test_a_damaged_checkpoint_names_its_layer() -> None:
    model = hf_model("llama")
    model.model.layers[1].mlp.down_proj.weight.data[0, 0] = torch.nan
    with pytest.raises(ScoreError, match="in the load-time run, first in the MLP of layer 1"):
        view_of(model, "damaged")


def test_a_view_says_which_tokens_and_how_many_it_takes() -> None:
    model = hf_model("gpt2")
    model.resize_token_embeddings(VOCAB + 3)
    view = view_of(model, "gpt2")
    assert (view.d_vocab_in, view.d_vocab, view.max_positions) == (VOCAB + 3, VOCAB + 3, 32)
    with pytest.raises(IndexError):
        view.embed(torch.tensor([[view.d_vocab_in]]))
