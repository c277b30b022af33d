"""Models in forms that are not read as they are, and tokenizers alone: read, or one sentence that says what to do."""

from pathlib import Path
from typing import Any

import pytest
import torch

from acdc_engine.errors import ModelError
from acdc_engine.model import load, load_model
from acdc_engine.model.load import load_tokenizer
from acdc_engine.model.small_model import WordTokenizer
from tests.model.test_load import tiny_tokenizer
from tests.tiny_models import hf_model


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("model.gguf", r"is a file: such files are not read .*from_pretrained\('{folder}', gguf_file='model.gguf'\)"),
        ("model.pt", "is a file: a state dict does not say which model .*transformers class.*docs/models.md"),
        ("model.ckpt", "is a file: a state dict does not say which model"),
        ("model.safetensors", "is a file: give its folder, with the config.json"),
        ("notes.txt", "There is no model folder at"),
    ],
)
def test_a_file_says_what_to_do_with_it(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(b"")
    for read in (load_model, load_tokenizer):
        with pytest.raises(ModelError, match=text.replace("{folder}", str(tmp_path))):
            read(str(tmp_path / name))


def test_a_folder_with_a_gguf_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "small-q8.gguf").write_bytes(b"")
    for _ in range(2):  # with its configuration, as on the hub, it is no model either
        with pytest.raises(ModelError, match=r"holds its weights as GGUF \(small-q8.gguf\).*gguf_file='small-q8.gguf'"):
            load_model(tmp_path)
        (tmp_path / "config.json").write_text("{}")


def test_an_adapter_folder_says_what_to_do(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    base = tmp_path / "base"
    hf_model("llama").save_pretrained(base)
    adapted = peft.get_peft_model(hf_model("llama"), peft.LoraConfig(target_modules=["q_proj"]))
    adapted.save_pretrained(tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"holds a peft adapter.*AutoPeftModelForCausalLM.*merge_and_unload\(\)"):
        load_model(tmp_path / "adapter")
    adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    tiny_tokenizer().save_pretrained(tmp_path / "merged")
    assert load_model(tmp_path / "merged").name == "merged"


def test_a_tokenizer_by_name_or_folder(tmp_path: Path) -> None:
    hf_model("llama").save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    for given in (tmp_path, str(tmp_path)):
        view = load_model(hf_model("llama"), tokenizer=given)
        assert view.tokenizer("w5 w7", add_special_tokens=False)["input_ids"] == [5, 7]
    assert isinstance(load_model(hf_model("gpt2"), tokenizer="induction-2l").tokenizer, WordTokenizer)
    with pytest.raises(ModelError, match="There is no model folder at"):
        load_model(hf_model("llama"), tokenizer=str(tmp_path / "nothing"))
    with pytest.raises(ModelError, match=r"A tokenizer is a Hugging Face tokenizer, or the name or folder .* type int"):
        load_model(hf_model("llama"), tokenizer=3)


def test_experts_compute_in_float64() -> None:
    """With the experts' implementation that transformers picks by itself, which has no float64."""
    model = hf_model("mixtral")
    model.config._experts_implementation = "grouped_mm"
    view = load_model(model.to(torch.float64))
    assert view.dtype == torch.float64 and model.config._experts_implementation == "grouped_mm"
    tokens = torch.arange(1, 9)[None]
    torch.testing.assert_close(view.logits(tokens).float(), load_model(hf_model("mixtral")).logits(tokens))


def test_a_tokenizer_is_read_without_weights(smollm2_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("weights were read")

    monkeypatch.setattr(load, "_read", refuse)
    monkeypatch.setattr("safetensors.torch.load_file", refuse)
    ids = [load_tokenizer(*model)("a b", add_special_tokens=False)["input_ids"] for model in ((), (smollm2_path,))]
    assert ids[0] == ids[1]


def test_what_has_no_tokenizer(tmp_path: Path, smollm2_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text((smollm2_path / "config.json").read_text())
    with pytest.raises(ModelError, match="no tokenizer that can be read"):
        load_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"The model in .* cannot be read: "):
        load_tokenizer(tmp_path)
    monkeypatch.setattr(load, "_hub_answers", lambda: False)
    with pytest.raises(ModelError, match="Model 'no-such-model' cannot be loaded"):
        load_tokenizer("no-such-model")
