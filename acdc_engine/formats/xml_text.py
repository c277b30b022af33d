r"""Texts that XML 1.0 cannot hold, written so that they can be read back; and XML that is not to be trusted.

A character that XML forbids or changes (control characters, carriage returns, U+FFFE) is written as `\u` and four
hexadecimal digits; so is a backslash before a `u`, which makes this reversible. A lone `\u` is the empty text, which
GraphML cannot tell from none. Other texts are written as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import ParseError
from xml.parsers import expat

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.attributed import CARRIED
from acdc_engine.formats.format import check_size

if TYPE_CHECKING:
    import networkx as nx

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]|\\\\(?=u)")
_ESCAPED = re.compile(r"\\u([0-9a-f]{4})")
_EMPTY = "\\u"
_DEEPEST = 100


def escaped(text: str) -> str:
    """A text that XML can hold."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text) or _EMPTY


def unescaped(text: str) -> str:
    """The text that `escaped` was given."""
    return "" if text == _EMPTY else _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)


def with_texts(graph: nx.Graph[Any], change: Callable[[str], str]) -> nx.Graph[Any]:
    """The graph with every text among its attributes changed, but for the JSON that it carries."""
    everything = [graph.graph, *(facts for _, facts in graph.nodes(data=True))]
    everything += [facts for _, _, facts in graph.edges(data=True)]
    for facts in everything:
        facts.update({key: change(text) for key, text in facts.items() if isinstance(text, str) and key != CARRIED})
    return graph


def read_xml(path: Path, what: str, read: Callable[[Path], nx.Graph[Any]]) -> nx.Graph[Any]:
    """Reads a graph from XML that a stranger may have written.

    Args:
        path: The file.
        what: What it should be, such as `GraphML`.
        read: Reads it.

    Raises:
        CircuitFileError: It is too large, no XML, declares a DOCTYPE (whose entities can blow a file up), is nested too
            deeply, or is not of that format.
    """
    import networkx as nx

    check_size(path)
    _check_xml(path, what)
    try:
        return with_texts(read(path), unescaped)
    # A reader of networkx meets what it does not expect with errors of any of these kinds.
    except (nx.NetworkXException, ParseError, ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError,
            ValueError) as error:  # fmt: skip
        reason = str(error) or type(error).__name__
        raise CircuitFileError(
            f"{path} is no {what} that can be read: {reason[:300]}. Write it again where it comes from."
        ) from error


def _check_xml(path: Path, what: str) -> None:
    """Refuses DOCTYPEs and deep nesting before anything is built from the file."""
    depth = 0

    def doctype(*_: object) -> None:
        raise CircuitFileError(
            f"{path} declares a DOCTYPE, whose entities are not expanded here. Remove the declaration: {what} needs "
            "none."
        )

    def start(*_: object) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise CircuitFileError(f"{path} is no {what} of a circuit: its elements are nested too deeply.")

    def end(*_: object) -> None:
        nonlocal depth
        depth -= 1

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler, parser.StartElementHandler, parser.EndElementHandler = doctype, start, end
    try:
        with path.open("rb") as file:
            parser.ParseFile(file)
    except (expat.ExpatError, ValueError, LookupError) as error:  # also of encodings that do not exist
        raise CircuitFileError(f"{path} is no XML: {error}. Copy it again from where it was written.") from error
