import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from safetensors import SafetensorError

from acdc_engine.errors import ModelError
from acdc_engine.model import gguf, load_model
from acdc_engine.model.gguf import unpacked
from acdc_engine.model.load import load_tokenizer, read_config
from acdc_engine.model.refusals import _REASONS
from tests import tiny_models
from tests.model.gguf_files import CONFIGS, tiny, write_gguf
from tests.model.test_load import tiny_tokenizer
from tests.tiny_models import random_model, relative

GB = 10**9
HEAD = gguf._Head({}, {}, {"w": 1000}, None)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACDC_ENGINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_file_is_the_model_it_was_written_from(kind: str, tmp_path: Path, cache: Path) -> None:
    model, architecture = tiny(kind), kind.split()[0]
    said, frequencies = dict[str, Any](), None
    rope = model.config.rope_parameters.get("full_attention", model.config.rope_parameters)
    if rope["rope_type"] == "llama3":  # a tensor says it, as llama.cpp writes it: one divisor for every frequency
        plain = rope["rope_theta"] ** (-np.arange(0, 16, 2) / 16)
        frequencies = plain / model.model.rotary_emb.inv_freq.numpy()
        assert frequencies.max() > 7.9 and frequencies.min() == pytest.approx(1)
    elif rope["rope_type"] != "default":
        said = {"rope.scaling.type": rope["rope_type"], "rope.scaling.factor": rope["factor"]}
        if rope["rope_type"] == "yarn":
            said["rope.scaling.original_context_length"] = rope["original_max_position_embeddings"]
    said = {f"{architecture}.{key}": value for key, value in said.items()}
    source = write_gguf(tmp_path / "a-model.gguf", model, architecture, said=said, frequencies=frequencies)
    assert read_config(source)[0].num_hidden_layers == model.config.num_hidden_layers and not cache.exists()
    view, ids = load_model(str(source)), torch.randint(0, 272, (3, 20))
    assert relative(view.logits(ids), model(ids).logits) < 1e-5
    assert view.name == "a-model"
    assert load_model(tmp_path).name == "a-model"  # the folder that holds it


@pytest.mark.parametrize("quantization", ["Q8_0", "Q4_0", "F16", "BF16"])
def test_packed_weights_are_what_they_say(quantization: str, tmp_path: Path) -> None:
    model, kind = tiny("llama"), GGMLQuantizationType[quantization]
    source = write_gguf(tmp_path / "small.gguf", model, "llama", quantization=quantization)
    view, ids = load_model(source), torch.randint(0, 272, (3, 20))
    assert relative(view.logits(ids), model(ids).logits) > 1e-4
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.data = torch.from_numpy(dequantize(quantize(weight.detach().numpy(), kind), kind))
    assert relative(view.logits(ids), model(ids).logits) < 1e-5


def test_the_tokenizer_comes_with_it(tmp_path: Path, cache: Path) -> None:
    source = write_gguf(tmp_path / "a.gguf", tiny("qwen2"), "qwen2")
    tokenizer = load_tokenizer(source)
    assert not cache.exists()  # without unpacking the weights
    for one in (tokenizer, load_model(source).tokenizer):
        assert one.tokenize("in the other") == ["i", "n", "Ġthe", "Ġ", "o", "the", "r"]
        assert one("the<|end|>", add_special_tokens=False)["input_ids"] == [257, 259]


def test_what_cannot_be_unpacked_is_refused_before_anything_is_written(tmp_path: Path, cache: Path) -> None:
    model = tiny("llama")

    def refused(text: str, **given: Any) -> None:
        source = write_gguf(tmp_path / "a.gguf", model, "llama", **given)
        for read in (load_model, load_tokenizer, read_config):
            with pytest.raises(ModelError, match=text):
                read(source)
        assert not cache.exists() or folders(cache) == []

    refused(
        r"scales its rotary frequencies .* \(longrope\); none, linear", said={"llama.rope.scaling.type": "longrope"}
    )
    refused(r"\(that of rope_freqs.weight\)", frequencies=np.linspace(1, 8, 8))
    refused(r"is one of 3 parts of a model. .*llama-gguf-split --merge a.gguf", said={"split.count": 3})
    content = write_gguf(tmp_path / "a.gguf", model, "llama").read_bytes()
    foreign = content.replace(b"llama", b"mamba")
    for damaged, text in (
        (foreign, "of architecture 'mamba', which is not unpacked here; llama, qwen2, qwen3, gemma3 are"),
        (b"", "cannot be read as a GGUF file .*it does not begin with 'GGUF'"),
        (b"GGUF" + content[4:2000], "cannot be read as a GGUF file"),
    ):
        (tmp_path / "a.gguf").write_bytes(damaged)
        for read in (load_model, load_tokenizer, read_config):
            with pytest.raises(ModelError, match=text):
                read(tmp_path / "a.gguf")
        assert not cache.exists() or folders(cache) == []


@pytest.mark.parametrize(
    ("said", "scale"),
    [
        ({"rope.scaling.factor": 4.0}, 4.0),  # llama.cpp takes it for linear
        ({"rope.scale_linear": 4.0}, 4.0),
        ({"rope.scaling.type": "linear"}, None),
        ({"rope.scaling.type": "none", "rope.scaling.factor": 4.0}, None),
    ],
)
def test_how_frequencies_are_scaled_is_said_in_several_ways(
    said: dict[str, Any], scale: float | None, tmp_path: Path
) -> None:
    model = tiny("llama")
    source = write_gguf(tmp_path / "a.gguf", model, "llama", said={f"llama.{key}": one for key, one in said.items()})
    rope = read_config(source)[0].rope_parameters
    assert (rope["rope_type"], rope.get("factor")) == ("default" if scale is None else "linear", scale)


@pytest.mark.parametrize(
    ("name", "value"), [("attention.clamp_kqv", 8.0), ("logit_scale", 2.0), ("rope.dimension_count", 8)]
)
def test_what_a_head_says_and_nobody_reads_is_refused(name: str, value: float, tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "a.gguf", tiny("llama"), "llama", said={f"llama.{name}": value})
    with pytest.raises(ModelError, match=rf"a.gguf says {name} = {value}, which is not unpacked here"):
        load_model(source)


def test_a_file_of_the_same_name_in_the_working_directory_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    write_gguf(here / "a.gguf", random_model(CONFIGS["llama"](), 1), "llama")
    model = tiny("llama")
    source, ids = write_gguf(there / "a.gguf", model, "llama"), torch.randint(0, 272, (3, 20))
    monkeypatch.chdir(here)
    assert relative(load_model(source).logits(ids), model(ids).logits) < 1e-5
    assert relative(load_model("a.gguf").logits(ids), model(ids).logits) > 0.1


def test_one_tensor_changed_is_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.gguf"
    file.write_bytes(bytes(10**6))
    before = gguf._fingerprint(file)
    file.write_bytes(bytes(5 * 10**5) + b"1" + bytes(5 * 10**5 - 1))
    assert gguf._fingerprint(file) != before
    monkeypatch.setattr(gguf, "_HASHED", 10)  # of a large one its time of change tells
    before = gguf._fingerprint(file)
    os.utime(file, (1, 1))
    assert gguf._fingerprint(file) != before


def test_prompts_of_llama_3_begin_with_its_token(tmp_path: Path) -> None:
    """Its files do not say so; llama.cpp knows."""
    for pre, bos in (("llama-bpe", [259]), ("qwen2", [])):
        source = write_gguf(tmp_path / f"{pre}.gguf", tiny("llama"), "llama", pre=pre)
        for tokenizer in (load_tokenizer(source), load_model(source).tokenizer):
            assert tokenizer("the")["input_ids"] == [*bos, 257]


def test_without_a_tokenizer_that_can_be_read_one_of_ones_own_will_do(tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "a.gguf", tiny("llama"), "llama", words="rwkv")
    for read in (load_model, load_tokenizer):
        with pytest.raises(ModelError, match=r"'a' has weights, but no tokenizer that can be read in"):
            read(source)
    assert load_model(source, tokenizer=tiny_tokenizer()).tokenizer is not None


def test_an_unknown_quantization(tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "a.gguf", tiny("llama"), "llama")
    content, name = source.read_bytes(), b"output_norm.weight"
    at = content.index(name) + len(name) + 4 + 8  # its number of dimensions and its length
    source.write_bytes(content[:at] + (250).to_bytes(4, "little") + content[at + 4 :])
    with pytest.raises(ModelError, match=r"quantized in a way .* not know \(.*250.* is not .* Give a file in Q8_0"):
        load_model(source)


def test_a_missing_tensor_is_refused(tmp_path: Path, cache: Path) -> None:
    source = write_gguf(tmp_path / "a.gguf", tiny("llama"), "llama", without="blk.1.ffn_up.weight")
    with pytest.raises(ModelError, match=r"has 90,432 weights, and the model that transformers makes .* 96,576"):
        load_model(source)
    assert folders(cache) == []


def test_which_file_is_meant(tmp_path: Path) -> None:
    for name in ("a-q4.gguf", "a-q8.gguf"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ModelError, match=r"holds 2 GGUF files: give the one that is meant, such as .*a-q4.gguf"):
        load_model(tmp_path)
    for name in ("nothing.gguf", "nothing.GGUF"):
        with pytest.raises(ModelError, match=rf"There is no model at {name}. Give a folder .* or a GGUF file"):
            load_model(name)


def test_the_page_names_every_family_that_is_checked_or_refused() -> None:
    page = (Path(__file__).parents[2] / "docs/models.md").read_text()
    checked = {make().model_type for make in tiny_models.CONFIGS.values()}
    refused = {name for names in _REASONS.values() for name in names}
    assert {name for name in checked | refused if f"`{name}`" not in page} == set()
    for architecture in gguf.ARCHITECTURES:
        assert f"`{architecture}`" in page


# The cache


def write_tiny(folder: Path, model: bytes, tokenizer: Any) -> None:
    """Stands in for writing."""
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(model)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file whose conversion is a stand-in."""
    monkeypatch.setattr(gguf, "_check", lambda source: HEAD)
    monkeypatch.setattr(gguf, "_read", lambda source, head: (source.read_bytes(), None))
    monkeypatch.setattr(gguf, "_write_hf_folder", write_tiny)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=GB))
    (tmp_path / "tiny.gguf").write_bytes(b"weights")
    return tmp_path / "tiny.gguf"


def folders(cache: Path) -> list[str]:
    """What is left in the cache, but for the empty lock file."""
    return [path.name for path in cache.iterdir() if path.suffix != ".lock"]


def failing(error: BaseException) -> Callable[[Path, Any, Any], None]:
    """A conversion that stops after it has written something."""

    def convert(folder: Path, model: Any, tokenizer: Any) -> None:
        (folder / "config.json").write_text("{}")
        raise error

    return convert


def test_converts_once_and_says_so_on_standard_error(
    source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = unpacked(source, "tiny")
    assert folder.parent == cache and folders(cache) == [folder.name]
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    captured = capsys.readouterr()
    assert captured.err.startswith(f"Unpacking tiny, once, into {folder}\n") and captured.out == ""
    monkeypatch.setattr(gguf, "_write_hf_folder", failing(AssertionError("converted twice")))
    assert unpacked(source, "tiny") == folder and capsys.readouterr().err == ""


def test_another_file_gets_another_folder(source: Path, cache: Path) -> None:
    first = unpacked(source, "tiny")
    source.write_bytes(b"other weights")
    second = unpacked(source, "tiny")
    assert first != second and (second / "model.safetensors").read_bytes() == b"other weights"


@pytest.mark.parametrize(
    ("name", "content"),
    [("model.safetensors", None), ("model.safetensors", b"wei"), ("converted.json", None), ("converted.json", b"[1")],
)
def test_damaged_folder_is_converted_again(source: Path, cache: Path, name: str, content: bytes | None) -> None:
    folder = unpacked(source, "tiny")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    assert unpacked(source, "tiny") == folder
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert set(json.loads((folder / "converted.json").read_text())) == {"config.json", "model.safetensors"}


def test_interrupted_conversion_leaves_nothing(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf, "_write_hf_folder", failing(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        unpacked(source, "tiny")
    assert folders(cache) == []


def start_process(source: Path, conversion: str) -> subprocess.Popen[str]:
    """Another process that asks for the folder and prints it."""
    code = f"""
import os, sys, time
from pathlib import Path
sys.path.insert(0, {str(Path(gguf.__file__).parents[2])!r})
from acdc_engine.model import gguf
def convert(folder, model, tokenizer):
    (folder / "model.safetensors").write_bytes(model)
    {conversion}
gguf._check = lambda source: gguf._Head({{}}, {{}}, {{"w": 1000}}, None)
gguf._read = lambda source, head: (source.read_bytes(), None)
gguf._write_hf_folder = convert
print(gguf.unpacked(Path({str(source)!r}), "tiny"))
"""
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_killed_conversion_is_cleared_away_by_the_next(source: Path, cache: Path) -> None:
    process = start_process(source, "os._exit(9)")  # without a chance to tidy up, as after kill -9
    process.communicate()
    assert process.returncode == 9
    (left,) = folders(cache)
    assert left.endswith(".part")
    folder = unpacked(source, "tiny")
    assert folders(cache) == [folder.name]


def test_two_processes_at_once_convert_once(source: Path, cache: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    conversion = f"time.sleep(0.5); open({str(log)!r}, 'a').write('converted ')"
    both = [start_process(source, conversion) for _ in range(2)]
    answers = {process.communicate()[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert log.read_text() == "converted "
    (folder,) = answers
    assert folders(cache) == [Path(folder).name]


FULL = "No space left on device"


@pytest.mark.parametrize(
    ("convert", "free", "text"),
    [
        (
            None,
            12_345,
            rf"unpacked tiny cannot be kept in .*{FULL}, 40 MB are needed. Make room, or set ACDC_ENGINE_CACHE",
        ),
        (failing(OSError(errno.ENOSPC, FULL)), GB, rf"cannot be kept in .*{FULL}\. Make room"),
        (failing(SafetensorError(f"I/O error: {FULL} (os error 28)")), GB, rf"cannot be kept in .*{FULL} .* Make room"),
    ],
    ids=["no space before anything is written", "disk fills up", "disk fills up in safetensors"],
)
def test_a_conversion_that_fails_leaves_nothing(
    convert: Any, free: int, text: str, source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf, "_write_hf_folder", convert)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    with pytest.raises(ModelError, match=text):
        unpacked(source, "tiny")
    assert folders(cache) == []


@pytest.mark.parametrize(
    "error",
    [KeyError("no tensors"), OSError("not valid"), RuntimeError("a size"), NotImplementedError("F64"), MemoryError()],
)
def test_whatever_a_damaged_file_ends_in_is_about_the_file(
    error: BaseException, source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(source: Path, head: Any) -> Any:
        raise error

    monkeypatch.setattr(gguf, "_read", read)
    with pytest.raises(
        ModelError, match=r"tiny\.gguf cannot be read as a GGUF file \(.+\)\. Download it again, or give"
    ):
        unpacked(source, "tiny")
    assert folders(cache) == []
    source.unlink()
    with pytest.raises(ModelError, match=r"tiny\.gguf cannot be read as a GGUF file \(.*No such file"):
        unpacked(source, "tiny")


def test_cache_that_cannot_be_made(source: Path, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(ModelError, match=r"cannot be kept in .*cache: .* set ACDC_ENGINE_CACHE to a fol"):
        unpacked(source, "tiny")


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ACDC_ENGINE_CACHE", "~/mine")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert gguf.cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("ACDC_ENGINE_CACHE")
    assert gguf.cache_folder() == tmp_path / "xdg" / "acdc-engine"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert gguf.cache_folder() == tmp_path / ".cache" / "acdc-engine"


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("ACDC_ENGINE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", no_home)
    with pytest.raises(ModelError, match=r"determine home directory\. Set ACDC_ENGINE_CACHE to a folder\."):
        gguf.cache_folder()
