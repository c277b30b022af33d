"""The command that finds a circuit again."""

import json
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

from acdc_engine.run.settings import Settings

_OPTIONS = {"n_random": "--random", "prepend_bos": "--bos"}
"""Those that are not called as the setting is."""


def command_of(task: str | Path, model: Any, settings: Settings) -> str:
    """What to type to run the same again, with every option that is not the default; for a shell of POSIX.

    Where the model is an object no command names it: then it is the call in Python, with the model in words.

    Args:
        task: As given: a name or a path.
        model: As given to `discover`.
        settings: Of the run.
    """
    changed = [
        (field.name, getattr(settings, field.name))
        for field in fields(settings)
        if getattr(settings, field.name) != field.default
    ]
    if not isinstance(model, str | Path):
        named = "".join(f", {name}={_python(value)}" for name, value in changed)
        return f"discover({_python(str(task))}, model{named}) in Python, with model a loaded {type(model).__name__}"
    words = ["acdc", "discover", str(task), "--model", str(model)]
    for name, value in changed:
        option = _OPTIONS.get(name, f"--{name.replace('_', '-')}")
        if isinstance(value, bool):
            words.append(option if value else f"--no-{option.removeprefix('--')}")
        else:
            words += [option, str(value)]
    return shlex.join(words)


def _python(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)
