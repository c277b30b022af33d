"""Where the shipped tasks and circuits are: inside a wheel, or at the top of a checkout."""

from __future__ import annotations

from pathlib import Path

from acdc_engine.errors import AcdcError

MANIFEST = "model.json"
"""What makes a folder that of a small model (`model/small_model.py`)."""


def tasks_folder() -> Path:
    """The folder of the shipped task cards."""
    return _shipped("tasks")


def graphs_folder() -> Path:
    """The folder of the known circuits and of schema.json."""
    return _shipped("graphs")


def small_models() -> list[str]:
    """Names of the small models that are shipped."""
    return sorted(path.parent.name for path in graphs_folder().glob(f"*/{MANIFEST}"))


def _shipped(name: str) -> Path:
    package = Path(__file__).resolve().parent
    in_wheel = package / "_shipped" / name
    if in_wheel.is_dir():
        return in_wheel
    checkout = package.parent
    # Where this file is missing, a folder of that name beside the package is somebody else's.
    if (checkout / "pyproject.toml").is_file() and (checkout / name).is_dir():
        return checkout / name
    raise AcdcError(
        f"The shipped {name} are missing: neither {in_wheel} nor a checkout's {checkout / name} exists. "
        "Install acdc-engine from its wheel or, in a checkout, with pip install -e ."
    )
