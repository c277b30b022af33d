"""Named Python generators: prompts that templates cannot say. A card uses one with `generator = "name"`.

A generator gets a seeded random source, the tokenizer and its parameters, and yields drafts in random order until it
has no more; repeated drafts are allowed and skipped. One enters the register with `GENERATORS.add`; the engine's own
lie beside the cards (`tasks/NAME/generator.py`), those of others in plug-ins (find.py). A card cannot name a file with
code: reading a card never runs anything that is not installed.
"""

from __future__ import annotations

import functools
import importlib.util
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from acdc_engine.errors import TaskError
from acdc_engine.prompts.template import Draft
from acdc_engine.prompts.tokens import Tokenizer
from acdc_engine.registers import Entry, Register
from acdc_engine.shipped import tasks_folder

_Make = Callable[[random.Random, Tokenizer, Any], Iterator[Draft]]
"""Random source, tokenizer, parameters -> drafts."""

GENERATORS: Register[_Make] = Register("generator", "acdc_engine.tasks", TaskError)
"""Generators by name. Parameters, a card's `[parameters]` table, are a dataclass or a pydantic model."""


def get_generator(name: str) -> Entry[_Make]:
    """Returns the generator called `name`, or raises a TaskError.

    Plug-ins are imported only for one that does not come with the engine.
    """
    register_shipped()
    return GENERATORS[name]


def generator_parameters(name: str, given: Mapping[str, Any]) -> Any:
    """Returns a card's parameters as its generator takes them.

    Raises:
        TaskError: There is no generator of that name, or it takes no such parameter.
        ValidationError: Pydantic's.
    """
    model: Any = get_generator(name).parameters
    return model.model_validate(given) if issubclass(model, BaseModel) else GENERATORS.parameters_of(name, given)


@functools.cache
def register_shipped() -> None:
    """Runs the engine's own generators; before any plug-in, which must not take their names."""
    for path in sorted(tasks_folder().glob("*/generator.py")):
        spec = importlib.util.spec_from_file_location(f"acdc_engine_generator_{path.parent.name}", path)
        assert spec is not None and spec.loader is not None  # as for any file of Python
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
