"""`import acdc_engine` and `acdc --help` must answer at once: neither may import anything slow."""

import ast
import json
from pathlib import Path

import pytest

import acdc_engine
from benchmarks.fresh_python import run_python

SLOW = {
    *("torch", "transformers", "transformer_lens", "networkx", "scipy", "pandas"),
    *("matplotlib", "gguf", "jinja2", "pyarrow"),
}


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
    loaded = run_python(["-c", f"{code}\nimport json, sys; print(json.dumps(list(sys.modules)))"])
    assert SLOW & set(json.loads(loaded)) == set()


def test_the_package_alone_loads_next_to_nothing() -> None:
    """Counted, as seconds depend on the machine: 85 ms with `importlib.metadata` and its 100 modules, 10 without."""
    code = "import sys; before = set(sys.modules); import acdc_engine; print(*sorted(set(sys.modules) - before))"
    loaded = run_python(["-c", code]).split()
    assert "acdc_engine" in loaded and len(loaded) <= 40, loaded


def test_a_run_loads_what_it_needs() -> None:
    """Evidence, other tools' formats, pictures: when they are asked for."""
    code = "import sys, acdc_engine.run.discover; print(*[m for m in sys.modules if m.startswith('acdc_engine')])"
    assert len(run_python(["-c", code]).split()) <= 70


def test_type_checkers_see_the_public_names() -> None:
    """They read imports, not names that are looked up when first used."""
    assert (Path(acdc_engine.__file__).parent / "py.typed").is_file()
    source = ast.parse(Path(acdc_engine.__file__).read_text())
    own = [node for node in ast.walk(source) if isinstance(node, ast.ImportFrom) and "acdc_engine" in str(node.module)]
    assert set(acdc_engine.__all__) - {"__version__"} <= {alias.name for node in own for alias in node.names}


def test_public_names_are_the_things_themselves_also_after_their_modules_were_imported() -> None:
    """A module called like a function in it would take the function's place in the package."""
    homes = {name: acdc_engine._HOMES[name] for name in acdc_engine.__all__ if name != "__version__"}
    assert homes
    code = "".join(f"import {home}\n" for home in homes.values())
    code += "".join(f"print({name!r}, acdc_engine.{name} is {home}.{name})\n" for name, home in homes.items())
    assert run_python(["-c", code]).splitlines() == [f"{name} True" for name in homes]


def test_unknown_names_and_listed_ones() -> None:
    with pytest.raises(AttributeError, match="module 'acdc_engine' has no attribute 'discovr'"):
        acdc_engine.discovr  # noqa: B018
    assert set(acdc_engine.__all__) <= set(dir(acdc_engine))
