"""docs/architecture.md against the source: the files it lists, and who imports whom; imports in functions count too."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
PACKAGE = CHECKOUT / "acdc_engine"
FILES = sorted(PACKAGE.rglob("*.py"))
LEAVES = {"display", "errors"}
"""Importable by all."""


def imported(file: Path) -> set[str]:
    """Every module a file imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    assert all(node.level == 0 for node in names), f"{file} has a relative import"
    return plain | {f"{node.module}.{alias.name}" for node in names for alias in node.names}


def part(file: Path) -> str:
    """Folder of the package that a file is in, or its own name at top level."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def page() -> str:
    """docs/architecture.md."""
    return (CHECKOUT / "docs" / "architecture.md").read_text()


def listed() -> set[str]:
    """The files that the table in docs/architecture.md names, as paths inside the package."""
    rows = re.findall(r"^\| (`\w+/`|\*top level\*) \|(.*)", page().split("## The house")[1], re.MULTILINE)
    folders = {row: "" if row.startswith("*") else row.strip("`") for row, _ in rows}
    return {folders[row] + name for row, files in rows for name in re.findall(r"`(\w+\.py)`", files)}


def allowed() -> dict[str, set[str]]:
    """Who may import whom: the arrows in docs/architecture.md."""
    text = page().split("## Who imports whom")[1]
    arrows = [line.split("->") for line in text.splitlines() if line.startswith("    ") and "->" in line]
    table = {left.strip(): right.split("(")[0] for left, right in arrows}
    return {left: {name.strip() for name in right.split(",")} - {""} for left, right in table.items()}


def edges() -> dict[str, set[str]]:
    """Who imports whom."""
    found: dict[str, set[str]] = {part(file): set() for file in FILES}
    for file in FILES:
        inside = {name.split(".")[1] for name in imported(file) if name.startswith("acdc_engine.")}
        found[part(file)] |= (inside & set(map(part, FILES))) - {part(file)} - LEAVES
    return found


def test_every_file_is_in_the_table_of_the_house() -> None:
    there = {file.relative_to(PACKAGE).as_posix() for file in FILES}
    folders_own = {name for name in there if name.endswith("/__init__.py")}
    assert listed() == there - folders_own


@pytest.mark.parametrize("name", sorted({part(file) for file in FILES} - LEAVES))
def test_imports_go_the_way_that_is_documented(name: str) -> None:
    assert edges()[name] <= (allowed() | {"shipped": set()})[name]


def test_leaves_import_nothing_and_there_is_no_cycle() -> None:
    assert all(not edges()[name] for name in LEAVES)
    assert list(TopologicalSorter(edges()).static_order())


@pytest.mark.parametrize(
    ("package", "homes"),
    [
        ("transformers", {"models"}),
        ("transformer_lens", {"models"}),
        ("huggingface_hub", {"models"}),
        ("gguf", {"models"}),
        ("networkx", {"graph", "formats"}),
        ("scipy", {"evaluation"}),
        ("matplotlib", {"export"}),
        ("jinja2", {"html"}),
        ("typer", {"cli"}),
        ("filelock", {"models", "run"}),
        ("safetensors", {"models", "run"}),
        ("tests", set()),
        ("benchmarks", set()),
    ],
)
def test_packages_are_imported_where_they_belong(package: str, homes: set[str]) -> None:
    users = {part(file) for file in FILES if any(name.split(".")[0] == package for name in imported(file))}
    assert users == homes
