"""GGUF files (llama.cpp's format): unpacked once into a folder in Hugging Face format, which then loads like any other.

transformers does the unpacking, some twenty seconds for a small model; the folder loads in under one. Weights are kept
in float32, whatever they were packed in, so that the folder is exactly what the file says.

    1. `_check` reads the file's head: what cannot be unpacked is refused before anything is written.
    2. `unpacked` looks for the folder in the cache; processes that ask at the same time wait for one conversion.
    3. `_read` unpacks, with what transformers passes over in the head (`_config`) put in its place or refused.
"""

import errno
import hashlib
import json
import math
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acdc_engine.errors import ModelError

ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma3")
"""Names that GGUF gives to what is unpacked; `llama` is also Mistral, SmolLM and others that compute the same."""
_CACHE_VARIABLE = "ACDC_ENGINE_CACHE"
_LAYOUT = 3  # to be raised when the conversion writes something else: old folders are then no longer used
_MANIFEST = "converted.json"
"""Sizes of the folder's files, by name."""
_AGAIN = "Download it again, or give the model's folder in Hugging Face format."
_BESIDE = 40_000_000
"""Bytes of the folder's files beside the weights, at most about that: the tokenizer of Gemma takes 33 MB."""
_HASHED, _SAMPLES, _SAMPLE = 2**28, 64, 65_536
"""Files up to a size are told from others by all their bytes, larger ones by pieces: it costs time at every start."""
_PLAIN = {
    "attention.causal": True,
    "attention.clamp_kqv": 0.0,
    "attn_logit_softcapping": 0.0,
    "final_logit_softcapping": 0.0,
    "logit_scale": 1.0,
    "rope.scaling.attn_factor": 1.0,
}
"""What a head may say that transformers passes over, and with which value that changes nothing."""
_FREQUENCIES = "rope_freqs.weight"
"""By what Llama 3's rotary frequencies are divided: no weight of the model, but what its configuration says."""
_LLAMA_3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
_GEMMA_3_27B = 62
"""Layers of the model of its family that does not scale attention by the size of its heads."""


def unpacked(source: Path, name: str, again: str = _AGAIN) -> Path:
    """Returns the Hugging Face folder of a GGUF file, after unpacking it if that has not been done before.

    Of an unpacking standard error tells. The folder gets its name when all of it is written; one that misses a file or
    holds one of another size is made again.

    Args:
        source: The file.
        name: What the model is called; the folder's name begins with it.
        again: What to do about a damaged file, as a sentence.

    Raises:
        ModelError: The file is damaged, or of a kind that cannot be unpacked, or the cache cannot be written.
    """
    from filelock import FileLock
    from safetensors import SafetensorError

    cache = cache_folder()
    with _reading(source, again):
        folder = cache / f"{name}-{_fingerprint(source)}"
    if _is_whole(folder):
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f".{folder.name}.lock"):  # freed by the system where a process is killed
            if not _is_whole(folder):
                _convert(source, name, folder, again)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"The unpacked {name} cannot be kept in {cache}: {error}. Make room, or set {_CACHE_VARIABLE} to a folder "
            "that can be written."
        ) from error
    return folder


def packed_config(source: Path) -> Any:
    """The configuration of the model in a GGUF file, without unpacking its weights.

    Raises:
        ModelError: The file is damaged, or of a kind that cannot be unpacked.
    """
    with _reading(source, _AGAIN):
        return _config(source, _check(source))


def packed_tokenizer(source: Path) -> Any:
    """The tokenizer in a GGUF file, without unpacking its weights; errors of it alone are those of transformers.

    Raises:
        ModelError: The file is damaged, or of a kind that cannot be unpacked.
    """
    with _reading(source, _AGAIN):
        head = _check(source)
        _config(source, head)
    return _tokenizer(source, head)


def _tokenizer(source: Path, head: "_Head") -> Any:
    from transformers import AutoTokenizer

    said = head.said
    # llama.cpp begins prompts of this kind with the token, whether the file says so or not.
    begins = said.get("tokenizer.ggml.pre") == "llama-bpe" and "tokenizer.ggml.add_bos_token" not in said
    return AutoTokenizer.from_pretrained(**_place(source), **({"add_bos_token": True} if begins else {}))


@contextmanager
def _reading(source: Path, again: str) -> Iterator[None]:
    """Says of which file it is that something cannot be read: damaged ones end in errors of many libraries' types."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"{source} cannot be read as a GGUF file ({what}). {again}") from error


def _place(source: Path) -> dict[str, Any]:
    """Where transformers is to read; a file's name alone it takes for one in the working directory."""
    return {"pretrained_model_name_or_path": source.parent, "gguf_file": str(source.absolute())}


def cache_folder() -> Path:
    """Where unpacked models are kept: $ACDC_ENGINE_CACHE, or acdc-engine in the user's cache."""
    try:
        if own := os.environ.get(_CACHE_VARIABLE):
            return Path(own).expanduser().absolute()
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "acdc-engine"
    except RuntimeError as error:  # pathlib's way to say that this user has no home
        raise ModelError(f"There is no cache directory: {error} Set {_CACHE_VARIABLE} to a folder.") from error


def _fingerprint(source: Path) -> str:
    """Twelve digits that tell a file from others, wherever it lies; of a large one also when it was changed."""
    about = source.stat()
    found = hashlib.sha256(f"{about.st_size}:{_LAYOUT}".encode())
    with source.open("rb") as file:
        if about.st_size <= _HASHED:
            found.update(file.read())
        else:
            found.update(str(about.st_mtime_ns).encode())
            for i in range(_SAMPLES):
                file.seek(i * about.st_size // _SAMPLES)
                found.update(file.read(_SAMPLE))
    return found.hexdigest()[:12]


def _is_whole(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def _convert(source: Path, name: str, folder: Path, again: str) -> None:
    """Writes the folder under a temporary name, then renames it. Runs under the lock."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a killed conversion
    try:
        with _reading(source, again):
            head = _check(source)
        needed = 4 * sum(head.weights.values()) + _BESIDE
        if shutil.disk_usage(folder.parent).free < needed:
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}, {needed / 1e6:,.0f} MB are needed")
        part.mkdir()
        print(f"Unpacking {name}, once, into {folder}", file=sys.stderr)
        with _reading(source, again):
            model, tokenizer = _read(source, head)
        _write_hf_folder(part, model, tokenizer)
        sizes = {file.name: file.stat().st_size for file in part.iterdir()}
        (part / _MANIFEST).write_text(json.dumps(sizes), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)  # damaged
        os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@dataclass(frozen=True)
class _Head:
    """What a file says before its weights.

    Attributes:
        said: Single values, by their names.
        values: The same without the architecture's name in front (`attention.key_length`).
        weights: How many numbers each tensor of weights has, by name.
        frequencies: By what rotary frequencies are divided; None where the file has no such tensor.
    """

    said: Mapping[str, Any]
    values: Mapping[str, Any]
    weights: Mapping[str, int]
    frequencies: list[float] | None


def _check(source: Path) -> _Head:
    """Reads a file's head.

    Raises:
        ModelError: Part of a split file, an architecture that is not unpacked here, or an unknown quantization.
        ValueError: No GGUF file, or a damaged one; also KeyError and IndexError.
    """
    from gguf import GGUFReader

    with source.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ValueError("it does not begin with 'GGUF'")
    try:
        reader = GGUFReader(source)
    except ValueError as error:
        if "GGMLQuantizationType" not in str(error):
            raise
        raise ModelError(
            f"{source} is quantized in a way that the installed gguf package does not know ({error}). Give a file in "
            "Q8_0, F16 or another usual quantization, or install a newer gguf."
        ) from error
    said = {name: field.contents() for name, field in reader.fields.items() if len(field.data) == 1}
    architecture = str(said.get("general.architecture", ""))
    if int(said.get("split.count", 1)) > 1:
        raise ModelError(
            f"{source} is one of {said['split.count']} parts of a model. Join them first: llama-gguf-split --merge "
            f"{source.name} WHOLE.gguf."
        )
    if architecture not in ARCHITECTURES:
        raise ModelError(
            f"{source} holds a model of architecture {architecture!r}, which is not unpacked here; "
            f"{', '.join(ARCHITECTURES)} are. Give the model's folder in Hugging Face format instead."
        )
    values = {name.removeprefix(f"{architecture}."): value for name, value in said.items()}
    weights = {tensor.name: int(tensor.n_elements) for tensor in reader.tensors if tensor.name != _FREQUENCIES}
    found = [tensor.data.tolist() for tensor in reader.tensors if tensor.name == _FREQUENCIES]
    return _Head(said, values, weights, found[0] if found else None)


def _read(source: Path, head: _Head) -> tuple[Any, Any]:
    """The model of a GGUF file in float32, and its tokenizer; None where that cannot be read.

    Raises:
        ModelError: The model is not all of what the file holds, or has more.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from acdc_engine.model.load import quiet

    with quiet():
        config = _config(source, head)
        model: Any = AutoModelForCausalLM.from_pretrained(**_place(source), config=config, dtype=torch.float32)
        try:
            tokenizer = _tokenizer(source, head)
        except Exception:  # whoever needs one is told; others may bring their own
            tokenizer = None
    there, said = sum(one.numel() for one in model.parameters()), sum(head.weights.values())
    if there != said:
        raise ModelError(
            f"{source} has {said:,} weights, and the model that transformers makes of it {there:,}: with weights that "
            "are not read, or random, it would not be that model. Give its folder in Hugging Face format instead."
        )
    return model, tokenizer


def _write_hf_folder(folder: Path, model: Any, tokenizer: Any) -> None:
    """Writes a Hugging Face folder."""
    from safetensors.torch import save_file

    weights = {name: one.detach().contiguous() for name, one in model.named_parameters()}  # tied ones once
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    del model.config.quantization_config  # for which save_pretrained refuses
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def _config(source: Path, head: _Head) -> Any:
    """The model's configuration, with what transformers passes over in the head.

    Raises:
        ModelError: Rotary frequencies that cannot be said here.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(**_place(source))
    d_head = head.values.get("attention.key_length")
    plain = {**_PLAIN, **({"rope.dimension_count": d_head} if d_head else {})}
    for name, value in plain.items():
        if head.values.get(name, value) != value:
            raise ModelError(
                f"{source} says {name} = {head.values[name]}, which is not unpacked here. Give the model's folder in "
                "Hugging Face format instead."
            )
    if d_head:
        config.head_dim = int(d_head)
        if hasattr(config, "query_pre_attn_scalar"):  # llama.cpp knows the one exception by its layers, too
            exception = config.num_hidden_layers == _GEMMA_3_27B
            config.query_pre_attn_scalar = (
                config.hidden_size // config.num_attention_heads if exception else int(d_head)
            )
    scaling = _scaling(head, source)
    if scaling is not None:
        rope = config.rope_parameters
        rope.get("full_attention", rope).update(scaling)  # in Gemma 3 layers with a window keep theirs
    return config


def _scaling(head: _Head, source: Path) -> dict[str, Any] | None:
    """How rotary frequencies are changed, as transformers says it; None where they are not.

    Raises:
        ModelError: In a way that cannot be said here.
    """
    factor = head.values.get("rope.scaling.factor", head.values.get("rope.scale_linear"))
    kind = head.values.get("rope.scaling.type", "linear")  # as llama.cpp takes it
    if not factor and kind == "linear":
        kind = "none"
    base = float(head.values.get("rope.freq_base", 10_000.0))
    if head.frequencies is not None:
        found = {"rope_type": "llama3", "factor": max(head.frequencies), **_LLAMA_3}
        expected = _divisors(found, base, len(head.frequencies))
        if all(math.isclose(one, other, rel_tol=1e-3) for one, other in zip(head.frequencies, expected, strict=True)):
            return found
        kind = f"that of {_FREQUENCIES}"
    if kind == "none":
        return None
    if kind == "linear" and factor:
        return {"rope_type": "linear", "factor": float(factor)}
    if kind == "yarn" and factor and (length := head.values.get("rope.scaling.original_context_length")):
        return {"rope_type": "yarn", "factor": float(factor), "original_max_position_embeddings": int(length)}
    raise ModelError(
        f"{source} scales its rotary frequencies in a way that is not unpacked here ({kind}); none, linear, yarn and "
        "Llama 3's are. Give the model's folder in Hugging Face format instead."
    )


def _divisors(rope: Mapping[str, Any], base: float, n: int) -> list[float]:
    """By what Llama 3 divides each of its rotary frequencies (transformers' `_compute_llama3_parameters`)."""
    length, low, high = (
        float(rope[name]) for name in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor")
    )
    found = list[float]()
    for i in range(n):
        turns = length * base ** (-i / n) / (2 * math.pi)
        smooth = min(max((turns - low) / (high - low), 0.0), 1.0)
        found.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return found
