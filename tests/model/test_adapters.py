"""Adapters of peft, merged into a copy; and such as cannot be, each with a message before anything runs."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from acdc_engine import intervene
from acdc_engine.errors import ModelError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.model import load_model
from acdc_engine.model.alike import OneOfMany, alike
from acdc_engine.run.ablate import ablate
from tests.model.test_load import tiny_tokenizer
from tests.tiny_models import VOCAB, hf_model, relative_distance

peft = pytest.importorskip("peft")
TOKENS = torch.randint(0, VOCAB, (2, 9), generator=torch.Generator().manual_seed(1))


def adapted(kind: str = "llama", targets: tuple[str, ...] = ("q_proj", "down_proj")) -> Any:
    torch.manual_seed(0)
    settings = peft.LoraConfig(target_modules=list(targets), r=4, lora_alpha=8, init_lora_weights=False)
    return peft.get_peft_model(hf_model(kind), settings).eval()


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(TOKENS).logits
    return found


def test_objects_and_folders_compute_what_peft_does_and_stay_as_they_are(tmp_path: Path) -> None:
    model, plain = adapted(), hf_model("llama")
    wanted, before = logits_of(model), logits_of(plain)
    assert relative_distance(before, wanted) > 1e-2
    model.save_pretrained(tmp_path / "lora")
    hf_model("llama").save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    parameters = {name: value.clone() for name, value in model.state_dict().items()}
    views = [
        load_model(model),
        load_model(plain, adapter=tmp_path / "lora"),
        load_model(tmp_path / "base", adapter=str(tmp_path / "lora")),
    ]
    for view in views:
        assert relative_distance(view.logits(TOKENS), wanted) < 1e-5
    assert views[2].name == "base+lora" and len({view.weights_hash() for view in views}) == 1
    assert torch.equal(logits_of(plain), before) and torch.equal(logits_of(model), wanted)
    assert all(torch.equal(value, parameters[name]) for name, value in model.state_dict().items())


def test_a_model_without_nodes_has_its_adapter_merged(tmp_path: Path) -> None:
    model = adapted()
    model.save_pretrained(tmp_path / "lora")
    hf_model("llama").save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    view = load_model(tmp_path / "base", adapter=tmp_path / "lora")
    circuit = Circuit.from_edges(view, ["input->a0.h1<v>", "a0.h1->logits"])
    given: dict[str, Any] = {"model": tmp_path / "base", "adapter": tmp_path / "lora"}
    found = ablate(circuit, tmp_path / "made", **given)
    assert found.model == "base+lora" and found.folded == ("a0.h1",) and not found.remarks
    kept: Any = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "made")
    with intervene(model.merge_and_unload(), circuit.knockout()):
        wanted = logits_of(model)
    assert relative_distance(logits_of(kept), wanted) < 1e-5 < relative_distance(logits_of(hf_model("llama")), wanted)
    with pytest.raises(ModelError, match=r"There is no adapter in .*base"):
        ablate(circuit, tmp_path / "other", model=tmp_path / "base", adapter=tmp_path / "base")
    with pytest.raises(ModelError, match=r"'base\+lora'.* BASE\+NAME is --model BASE with the adapter NAME"):
        ablate(circuit, tmp_path / "other")


def test_models_are_looked_at_by_their_files_alone(tmp_path: Path) -> None:
    """An adapter's folder is the first model with it; other shapes are refused without reading weights."""
    for name, model in (("base", hf_model("llama")), ("same", hf_model("llama")), ("other", hf_model("llama_grouped"))):
        model.save_pretrained(tmp_path / name)
        tiny_tokenizer().save_pretrained(tmp_path / name)
        (tmp_path / name / "model.safetensors").unlink()
    adapted().save_pretrained(tmp_path / "lora")
    found = alike([tmp_path / "base", tmp_path / "lora", str(tmp_path / "same")])
    assert [one.name for one in found] == ["base", "lora", "same"]
    assert found[1] == OneOfMany(tmp_path / "base", tmp_path / "lora", "lora") and found[2].adapter is None
    with pytest.raises(ModelError, match=r"'base' and 'other' differ in n_kv_heads 4 and 2\. Give a model and"):
        alike([tmp_path / "base", tmp_path / "other"])
    with pytest.raises(ModelError, match=r"differ in .*architecture LlamaForCausalLM and GPT2LMHeadModel"):
        alike([tmp_path / "base", hf_model("gpt2")])
    assert len(alike([tmp_path / "base", hf_model("llama"), adapted()])) == 3


def test_adapters_that_cannot_be_used(tmp_path: Path) -> None:
    lora = tmp_path / "lora"
    adapted().save_pretrained(lora)
    with pytest.raises(ModelError, match=r"There is no adapter in .*: it holds no adapter_config.json"):
        load_model("gpt2", adapter=tmp_path)
    with pytest.raises(ModelError, match=r"this is a small model, which peft does not know. Leave it out"):
        load_model("induction-2l", adapter=lora)
    with pytest.raises(ModelError, match=r"this is a PeftModel, which has adapters already"):
        load_model(adapted(), adapter=lora)
    with pytest.raises(ModelError, match=r"this is a view"):
        load_model(load_model(hf_model("llama")), adapter=lora)
    with pytest.raises(ModelError, match=r"does not fit model 'GPT2LMHeadModel', so it is one of another base"):
        load_model(hf_model("gpt2"), adapter=lora)
    broken = tmp_path / "broken"
    shutil.copytree(lora, broken)
    (broken / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"another base model or damaged"):
        load_model(hf_model("llama"), adapter=broken)
    prompts = peft.get_peft_model(hf_model("llama"), peft.PromptTuningConfig("CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(ModelError, match=r"of type PROMPT_TUNING, which adds to the prompt"):
        load_model(prompts)
    off = adapted()
    off.disable_adapter_layers()
    with pytest.raises(ModelError, match=r"adapters of this PeftModel are switched off"):
        load_model(off)


def test_an_adapter_of_a_deeper_model(tmp_path: Path) -> None:
    """Peft would leave out what it has no place for, with a warning."""
    from safetensors.torch import load_file, save_file

    adapted().save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    weights = load_file(file)
    deeper = {
        name.replace("layers.0", "layers.7"): value.clone() for name, value in weights.items() if "layers.0" in name
    }
    save_file(weights | deeper, file)
    with pytest.raises(ModelError, match=r"does not fit .*layers\.7.* is in only one of them"):
        load_model(hf_model("llama"), adapter=tmp_path)
