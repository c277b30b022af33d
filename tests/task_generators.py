"""Modules that belong to no package: generators beside shipped cards (`tasks/NAME/generator.py`), and scripts."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from acdc_engine.prompts.generators import get_generator


def generator_module(name: str) -> Any:
    """The module of a shipped generator."""
    return sys.modules[get_generator(name).value.__module__]


def module_at(path: Path) -> Any:
    """What a file defines, as a module."""
    spec = spec_from_file_location(f"module_at_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their own module up
    spec.loader.exec_module(module)
    return module
