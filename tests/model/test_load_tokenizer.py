"""A tokenizer without its model's weights."""

from pathlib import Path
from typing import Any

import pytest

from acdc_engine.errors import ModelError
from acdc_engine.model import load, load_tokenizer
from acdc_engine.model.load_tokenizer import load_tokenizer as tokenizer_of


def test_smollm2_without_reading_its_weights(smollm2_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("weights were read")

    monkeypatch.setattr(load, "_read", refuse)
    monkeypatch.setattr("safetensors.torch.load_file", refuse)
    assert (
        tokenizer_of()("a b", add_special_tokens=False)["input_ids"] == tokenizer_of(smollm2_path)("a b")["input_ids"]
    )


def test_a_small_model() -> None:
    tokenizer = tokenizer_of("tracr-reverse")
    ids = tokenizer("a b", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["a", "b"]


def test_a_folder_with_weights_alone(tmp_path: Path, smollm2_path: Path) -> None:
    (tmp_path / "config.json").write_text((smollm2_path / "config.json").read_text())
    with pytest.raises(ModelError, match="no tokenizer that can be read"):
        tokenizer_of(tmp_path)


def test_what_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="There is no model folder at"):
        tokenizer_of("./no/such/folder")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"The model in .* cannot be read: "):
        tokenizer_of(tmp_path)
    monkeypatch.setattr(load_tokenizer, "hub_answers", lambda: False)
    with pytest.raises(ModelError, match="Model 'no-such-model' cannot be loaded"):
        tokenizer_of("no-such-model")
