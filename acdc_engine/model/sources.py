"""Where models come from: names, folders, the hub; and what to say when one cannot be read."""

import contextlib
import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from acdc_engine.errors import ModelError, nearest
from acdc_engine.model.small_file import MANIFEST, shipped_small_model, small_models

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
_GGUF = (
    "such files are not read as they are. transformers unpacks one: hf_model = "
    "AutoModelForCausalLM.from_pretrained('{folder}', gguf_file='{file}'), the tokenizer likewise with AutoTokenizer; "
    "then load_model(hf_model, tokenizer=...) from Python."
)
_STATE_DICT = (
    "a state dict does not say which model its weights belong to. Load it into its transformers class and give "
    "load_model that object, or the folder that its save_pretrained writes; models of other programs, such as "
    "transformer_lens, can become small models (docs/models.md)."
)
_OTHER_FILES = {
    ".gguf": _GGUF,
    ".safetensors": "give its folder, with the config.json and the tokenizer that belong to it. On its own "
    + _STATE_DICT,
    **dict.fromkeys((".pt", ".pth", ".bin", ".ckpt"), _STATE_DICT),
}
"""What to say of files that hold models, by ending."""


def small_model_folder(model: str | Path) -> Path | None:
    """The folder of a small model, by the name of a shipped one or as a path; None for any other model."""
    shipped = shipped_small_model(model) if isinstance(model, str) else None
    folder = Path(model).expanduser()
    return shipped or (folder if (folder / MANIFEST).is_file() else None)


def resolve(model: str | Path) -> tuple[str, str]:
    """Returns where to read a model from, and what to call it.

    Raises:
        ModelError: The default model's package is missing, there is no model in the folder, or it is one in a form
            that has to be turned into another first (GGUF, a state dict, an adapter).
    """
    if str(model) == DEFAULT_MODEL:
        from acdc_engine.model.smollm2 import smollm2_folder

        return str(smollm2_folder()), DEFAULT_MODEL
    folder = Path(model).expanduser()
    _refuse_other_files(folder)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(
                f"Folder {folder} holds no config.json: it is not a Hugging Face model directory. Nor is it that of a "
                f"small model: there is no {MANIFEST} either."
            )
        return str(folder), folder.name
    looks_local = isinstance(model, Path) or str(model).startswith((".", "/", "~")) or str(model).count("/") > 1
    if looks_local:
        raise ModelError(f"There is no model folder at {folder}. Give one that holds a config.json and weights.")
    return str(model), str(model)


def _refuse_other_files(path: Path) -> None:
    """Says what to do with forms of models that are not read as they are."""
    advice = _OTHER_FILES.get(path.suffix.lower())
    if advice and path.is_file():
        raise ModelError(f"{path} is a file: {advice.format(folder=path.parent, file=path.name)}")
    if (path / "adapter_config.json").is_file():
        raise ModelError(
            f"Folder {path} holds a peft adapter, not a whole model. Merge it into its base model and save the result: "
            f"peft.AutoPeftModelForCausalLM.from_pretrained({str(path)!r}).merge_and_unload().save_pretrained(NEW); "
            "save the tokenizer there too, and give that folder."
        )
    packed = sorted(path.glob("*.gguf")) if path.is_dir() else []
    if packed and not any(path.glob("*.safetensors")) and not any(path.glob("*.bin")):
        raise ModelError(
            f"Folder {path} holds its weights as GGUF ({packed[0].name}): "
            + _GGUF.format(folder=path, file=packed[0].name)
        )


def hub_answers() -> bool:
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
    """Keeps the libraries' own progress bars and warnings out of ours.

    Args:
        stderr: Nothing at all on standard error. False leaves the hub's download bars, which can take minutes; the
            user's own setting of them is not touched.
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


def read_tokenizer(source: str, name: str, where: dict[str, Any]) -> Any:
    """Reads the tokenizer that comes with a model.

    Args:
        source: Folder or name on the hub.
        name: What the user called the model.
        where: Revision and the like, for transformers.

    Raises:
        ModelError: There is none, or it cannot be read.
    """
    from transformers import AutoTokenizer

    cause: Exception | None = None
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **where)
        if tokenizer("a", add_special_tokens=False)["input_ids"]:
            return tokenizer
        reason = "no tokenizer files"  # transformers makes an empty one of them, for GPT-2 and others
    except Exception as error:
        cause, reason = error, first_line(error)
    raise ModelError(
        f"Model {name!r} has weights, but no tokenizer that can be read in {source} ({reason}). Task cards need one: "
        "save the model's tokenizer there (tokenizer.save_pretrained), or load the model from Python with "
        "load_model(..., tokenizer=...)."
    ) from cause


def unreadable(source: str, name: str, error: Exception, reachable: bool) -> ModelError:
    """What to say of a model that transformers does not read."""
    if "trust_remote_code" in str(error):
        return ModelError(
            f"Model {name!r} needs Python code that comes with its weights, and such code is not run here. If you "
            "trust it, load the model yourself with transformers (trust_remote_code=True) and pass it to load_model."
        )
    if Path(source).is_dir():
        return ModelError(f"The model in {source} cannot be read: {first_line(error)}")
    known = (*WELL_KNOWN, *small_models())
    others = () if name in known else known
    remedy = f"download it elsewhere and give its directory, or use --model {DEFAULT_MODEL}, which needs no hub."
    if not reachable:
        return ModelError(
            f"Model {name!r} cannot be loaded: it is no local directory, the Hugging Face hub cannot be reached, and "
            f"its cache on this machine does not hold it ({first_line(error)}). Check the name and the network, "
            f"{remedy}{nearest(name, others) if others else ''}"
        )
    return ModelError(
        f"Model {name!r} cannot be loaded: it is no local directory, and the Hugging Face hub did not deliver it "
        f"({first_line(error)}). Check the name and the network, {remedy}{nearest(name, others)}"
    )


def first_line(error: Exception) -> str:
    """The first line of what an error says; its type where it says nothing."""
    return str(error).strip().splitlines()[0].strip() if str(error).strip() else type(error).__name__
