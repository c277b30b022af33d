"""Who may import whom: a folder imports only from those before it; imports in functions and dotted strings count."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "acdc_engine"
FILES = sorted(PACKAGE.rglob("*.py"))
ORDER = (
    *("errors", "ranks", "display", "registers", "shipped", "graph", "model", "prompts", "score", "patch", "search"),
    *("evidence", "act", "formats", "show", "provenance", "experiment", "run", "pages", "cli", "__main__", "__init__"),
)
"""From the bottom to the top, as docs/architecture.md draws the house."""


def part(file: Path) -> str:
    """Folder of the package that a file is in, or its own name at top level."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(file: Path) -> set[str]:
    """Every module of the package that a file imports or names in a string, wherever in it."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    those = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    froms = {f"{node.module}.{alias.name}" for node in those for alias in node.names}
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    dotted = {text for text in texts if re.fullmatch(r"acdc_engine(\.\w+)+", text)}
    return {name for name in plain | froms | dotted if name.startswith("acdc_engine.")}


def edges() -> set[tuple[str, str]]:
    """Pairs of a part and one that it imports."""
    parts = {part(file) for file in FILES}
    found = {(part(file), name.split(".")[1]) for file in FILES for name in imported(file)}
    return {(a, b) for a, b in found if b in parts and a != b}


def test_every_part_has_its_place() -> None:
    assert {part(file) for file in FILES} <= set(ORDER)


def test_nothing_imports_upwards() -> None:
    assert {(a, b) for a, b in edges() if ORDER.index(a) < ORDER.index(b)} == set()


def test_pictures_and_formats_know_the_graph_alone() -> None:
    allowed = {"errors", "display", "registers", "shipped", "graph"}
    assert {(a, b) for a, b in edges() if a in ("formats", "show") and b not in allowed} == set()


@pytest.mark.parametrize(
    ("package", "homes"), [("transformers", {"model"}), ("transformer_lens", {"model"}), ("typer", {"cli"})]
)
def test_where_packages_may_be_imported(package: str, homes: set[str]) -> None:
    users = set()
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            users |= {part(file) for name in names if name.split(".")[0] == package}
    assert users <= homes
