"""The generators that lie beside shipped cards, `tasks/NAME/generator.py`."""

import sys
from typing import Any

from acdc_engine.prompts.generators import get_generator


def generator_module(name: str) -> Any:
    """The module of a shipped generator."""
    return sys.modules[get_generator(name).value.__module__]
