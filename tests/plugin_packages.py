"""Installed packages with plug-ins, made in a folder: a package and its dist-info, as pip leaves them."""

import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from acdc_engine import registers
from acdc_engine.formats.register import FORMATS
from acdc_engine.patch.ablations import ABLATIONS
from acdc_engine.prompts.generators import GENERATORS
from acdc_engine.prompts.metrics import METRICS
from acdc_engine.registers import Register
from acdc_engine.score import METHODS
from acdc_engine.search import SEARCHES
from tests.tiny_task import CARD

TABLES: dict[str, Register[Any]] = {
    "method": METHODS,
    "strategy": SEARCHES,
    "ablation": ABLATIONS,
    "metric": METRICS,
    "format": FORMATS,
    "tasks": GENERATORS,
}
"""What each file of `one_of_each` adds to."""
PAIRS = (
    '{"clean": "Ann met Bob and Bob met", "corrupt": "Ann met Bob and Cem met", "answers": [" Ann"], '
    '"wrong_answers": [" Bob"]}\n'
)

GENERATOR = """
from pydantic import BaseModel, ConfigDict
from acdc_engine.prompts.generators import GENERATORS
from acdc_engine.prompts.template import PairTemplate

class Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid")
    words: list[str]

@GENERATORS.add("{name}", "a word twice", parameters=Parameters)
def make(rng, tokenizer, parameters):
    pattern = PairTemplate.parse("echo", "{{w}} and {{w}}", "{{v}} and {{w}}", [" {{w}}"], [" {{v}}"])
    for w in parameters.words:
        for v in parameters.words:
            if v != w:
                yield pattern.fill(dict(w=w, v=v))
"""


def card(name: str) -> str:
    """The tiny task under another name."""
    return CARD.replace('name = "tiny"', f'name = "{name}"', 1)


def generator_card(name: str, generator: str) -> str:
    """A card whose prompts are made by `GENERATOR`."""
    words = '["red", "green", "blue", "grey"]'
    return f'name = "{name}"\ndescription = "x"\ngenerator = "{generator}"\n[parameters]\nwords = {words}\n'


def install(
    site: Path,
    distribution: str,
    value: str,
    files: Mapping[str, str],
    key: str = "mine",
    group: str = "acdc_engine.tasks",
) -> None:
    """Writes a package into a folder that stands for site-packages; its entry point `key = value` is a plug-in."""
    for path, text in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text, encoding="utf-8")
    _write_metadata(site, distribution, {group: f"{key} = {value}"})


def install_one_of_each(site: Path) -> None:
    """Installs `tests/one_of_each`."""
    shutil.copytree(Path(__file__).with_name("one_of_each"), site / "one_of_each")
    _write_metadata(site, "one-of-each", {table.group: f"mine = one_of_each.{name}" for name, table in TABLES.items()})


def install_broken(site: Path) -> None:
    """Installs a package that has an entry point in every group, none of which can be imported."""
    for name in TABLES:
        (site / "broken" / name).mkdir(parents=True)
        (site / "broken" / name / "__init__.py").write_text(f"raise ValueError('no {name}')")
    (site / "broken" / "__init__.py").touch()
    _write_metadata(site, "broken", {table.group: f"theirs = broken.{name}" for name, table in TABLES.items()})


def _write_metadata(site: Path, distribution: str, points: Mapping[str, str]) -> None:
    """What pip leaves of a package: its entry points by their groups."""
    info = site / f"{distribution.replace('-', '_')}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("".join(f"[{group}]\n{line}\n" for group, line in points.items()))


def fresh_site(folder: Path, monkeypatch: pytest.MonkeyPatch, *tables: Register[Any]) -> Iterator[Path]:
    """A folder of installed packages; what is imported from it is forgotten afterwards, in the tables too."""
    modules = set(sys.modules)
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    for table in tables:
        monkeypatch.setattr(table, "_entries", dict(table._entries))
        monkeypatch.setattr(table, "_complete", False)
        monkeypatch.setattr(table, "broken", [])
    monkeypatch.setattr(registers, "_warned", set())
    registers.plugins.cache_clear()
    yield folder
    registers.plugins.cache_clear()
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]
