"""Several models that are to be set beside each other, such as checkpoints, looked at before any weights are read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acdc_engine.errors import ModelError
from acdc_engine.model.adapters import CONFIG, is_adapted
from acdc_engine.model.find import small_model_folder
from acdc_engine.model.load import adapting, load_model, load_tokenizer, read_config
from acdc_engine.model.pair import check_sizes, check_words, sizes_of
from acdc_engine.model.view import TransformerView

_KEYS = {
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "d_model": "hidden_size",
    "d_vocab": "vocab_size",
}
"""Sizes by their names in a configuration of transformers."""


@dataclass(frozen=True)
class OneOfMany:
    """A model among others, as `load_model` takes it, and what to call it before it is loaded."""

    model: Any
    adapter: Path | None
    name: str


def alike(models: Sequence[Any]) -> list[OneOfMany]:
    """Looks at models that must be different ones of one shape, with one tokenizer, as far as their files say it.

    Args:
        models: As for `load_model`; an adapter's folder stands for the first model with that adapter merged in.

    Raises:
        ModelError: One that is given twice, has another shape or tokenizer, or does not exist; or an adapter that comes
            first, or does not fit the first.
    """
    found = [_named(models, place) for place in range(len(models))]
    keys = [id(model) if not isinstance(model, str | Path) else _key(model) for model in models]
    for place, key in enumerate(keys):
        if key in keys[:place]:
            raise ModelError(f"Each model counts once, and {found[place].name!r} is given twice. Leave one out.")
    own = [one for one in found if one.adapter is None]
    first, tokenizer = _sizes(own[0].model), _tokenizer(own[0].model)
    for one in own[1:]:
        names, sizes = f"{own[0].name!r} and {one.name!r}", _sizes(one.model)
        check_sizes({key: value for key, value in first.items() if key in sizes}, sizes, names)
        check_words(tokenizer, _tokenizer(one.model), names)
    return found


def _named(models: Sequence[Any], place: int) -> OneOfMany:
    model = models[place]
    if not isinstance(model, str | Path):
        return OneOfMany(model, None, getattr(model, "name", None) or f"model {place + 1}")
    path = Path(model).expanduser()
    if not (path / CONFIG).is_file() or (path / "config.json").is_file():
        return OneOfMany(model, None, path.resolve().name if path.exists() else str(model))
    if not place:
        raise ModelError(
            f"{path} is the folder of an adapter, which is merged into the first of the models: name that before it."
        )
    return OneOfMany(models[0], adapting(models[0], path), path.resolve().name)


def _key(model: str | Path) -> str:
    path = Path(model).expanduser()
    return str(path.resolve()) if path.exists() else str(model)


def _sizes(model: Any) -> Mapping[str, Any]:
    if isinstance(model, str | Path) and small_model_folder(model) is not None:  # nothing to save
        return sizes_of(load_model(model, device="cpu"))
    if isinstance(model, TransformerView):
        return sizes_of(model)
    model = model.get_base_model() if is_adapted(model) else model
    config = read_config(model)[0] if isinstance(model, str | Path) else getattr(model, "config", None)
    if config is None or not hasattr(config, "get_text_config"):
        return {}  # loading it says what it is
    classes = (
        (getattr(config, "architectures", None) or ()) if isinstance(model, str | Path) else (type(model).__name__,)
    )
    text = config.get_text_config()
    sizes = {name: getattr(text, key, None) for name, key in _KEYS.items()}
    sizes["n_kv_heads"] = getattr(text, "num_key_value_heads", None) or sizes["n_heads"]
    sizes["architecture"] = next(iter(classes), None)
    return {name: value for name, value in sizes.items() if value is not None}


def _tokenizer(model: Any) -> Any:
    if isinstance(model, str | Path):
        return load_tokenizer(model)
    return getattr(model, "tokenizer", None)
