"""`run.toml`: all that a run was asked for, to run it again with `acdc discover --config run.toml`."""

import json
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError, create_model

from acdc_engine.errors import MethodError
from acdc_engine.prompts.schema_errors import explain
from acdc_engine.run.settings import Settings

RUN_FILE = "run.toml"
_MORE = {"task": (str, ""), "model": (str, ""), "threads": (int, 0)}
"""Keys beside the settings: kind, and a value that is never used."""
_Content = create_model(
    "_Content",
    __config__=ConfigDict(extra="forbid", strict=True),
    **{**_MORE, **{field.name: (field.type, field.default) for field in fields(Settings)}},  # type: ignore[call-overload]
)


def run_file_text(task: str | Path, model: str | Path, settings: Settings, threads: int) -> str:
    """The file of a run.

    Args:
        task: As given.
        model: As given: its name or folder.
        settings: Of the run; those that are None are left out.
        threads: CPU threads it runs with: the last bits of all numbers depend on them.
    """
    settled = {field.name: getattr(settings, field.name) for field in fields(settings)}
    content = {"task": str(task), "model": str(model), "threads": threads, **settled}
    lines = [f"{key} = {_toml(value)}" for key, value in content.items() if value is not None]
    return "\n".join([f"# acdc discover --config {RUN_FILE}    (options of the command line go before)", *lines, ""])


def read_run_file(path: Path) -> dict[str, Any]:
    """What a file asks for, by the names of `discover`'s keywords; keys that it does not have are not there.

    Raises:
        MethodError: It cannot be read, is no TOML, or has keys or values that there are not.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MethodError(f"Cannot read {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MethodError(f"{path} is not TOML: {error}.") from error
    try:
        _Content.model_validate(content)
    except ValidationError as error:
        problems = "\n".join(f"  {line}" for line in explain(error, lambda _: list(_Content.model_fields)))
        raise MethodError(f"{path} does not say what a run needs:\n{problems}") from error
    return content


def _toml(value: object) -> str:
    """A text, number or truth value as TOML, which writes texts as JSON does."""
    if isinstance(value, str | bool):
        return json.dumps(value, ensure_ascii=False)
    return repr(value) if isinstance(value, int | float) else str(value)
