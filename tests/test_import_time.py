"""`import acdc_engine` and `acdc --help` must answer at once: neither may import anything slow."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import acdc_engine

CHECKOUT = Path(__file__).parents[1]
SLOW = [
    "torch",
    "transformers",
    "transformer_lens",
    "networkx",
    "scipy",
    "pandas",
    "matplotlib",
    "gguf",
    "jinja2",
    "pyarrow",
]


def in_new_python(code: str) -> str:
    finished = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.parametrize(
    "code",
    [
        "import acdc_engine; dir(acdc_engine)",
        "import acdc_engine.cli",
        "import contextlib, io, sys; sys.argv = ['acdc', '--help']; from acdc_engine.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main()",
    ],
    ids=["import acdc_engine", "import acdc_engine.cli", "acdc --help"],
)
def test_slow_packages_are_not_imported(code: str) -> None:
    loaded = in_new_python(f"{code}\nimport json, sys; print(json.dumps(list(sys.modules)))")
    assert set(SLOW) & set(json.loads(loaded)) == set()


def test_public_names_are_the_things_themselves_also_after_their_modules_were_imported() -> None:
    """A module called like a function in it would take the function's place in the package."""
    homes = {name: acdc_engine._HOMES[name] for name in acdc_engine.__all__ if name != "__version__"}
    assert homes
    code = "".join(f"import {home}\n" for home in homes.values())
    code += "".join(f"print({name!r}, acdc_engine.{name} is {home}.{name})\n" for name, home in homes.items())
    assert in_new_python(code).splitlines() == [f"{name} True" for name in homes]


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'acdc_engine' has no attribute 'discovr'"):
        acdc_engine.discovr  # noqa: B018


def test_public_names_are_listed() -> None:
    assert set(acdc_engine.__all__) <= set(dir(acdc_engine))
