"""A model's tokenizer without its weights, for looking at prompts."""

from pathlib import Path
from typing import Any

from acdc_engine.model.small_file import read_small_model
from acdc_engine.model.small_model import words_of
from acdc_engine.model.sources import (
    DEFAULT_MODEL,
    hub_answers,
    quiet,
    read_tokenizer,
    resolve,
    small_model_folder,
    unreadable,
)


def load_tokenizer(model: str | Path = DEFAULT_MODEL) -> Any:
    """Reads the tokenizer of a model; its weights are neither read nor downloaded.

    Args:
        model: A name or folder, as for `load_model`.

    Returns:
        A Hugging Face tokenizer, or the words of a small model.

    Raises:
        ModelError: The model cannot be found or reached, or has no tokenizer.
    """
    small = small_model_folder(model)
    if small is not None:
        described, _ = read_small_model(small)
        return words_of(described)
    from transformers import AutoConfig

    source, name = resolve(model)
    local = Path(source).is_dir()
    reachable = local or hub_answers()
    where = {"local_files_only": local or not reachable, "trust_remote_code": False}
    with quiet(stderr=local):
        try:
            AutoConfig.from_pretrained(source, **where)  # says whether there is such a model at all
        except Exception as error:  # damaged files end in errors of many libraries' own types
            raise unreadable(source, name, error, reachable) from error
        return read_tokenizer(source, name, where)
