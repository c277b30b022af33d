"""Reads circuits from DOT: what `acdc export` writes, and graphs by hand or from networkx, as far as they are plain.

Understood are `digraph`, nodes and edges with attributes, chains (`a -> b -> c`) and subgraphs around them. Ports,
HTML texts, and subgraphs as the ends of edges are refused; defaults (`node [...]`) are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.attributed import CARRIED
from acdc_engine.formats.dot import COMMENT, dot_text
from acdc_engine.formats.format import Format, Source, check_size, writer
from acdc_engine.formats.from_graph import PlainGraph, reader
from acdc_engine.formats.xml_text import unescaped
from acdc_engine.graph.views import FIGURES

_TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*|/\*.*?\*/|^\#[^\n]*)
    |(?P<text>"[^"\\]*+(?:\\.[^"\\]*+)*+")|(?P<word>[^\W\d]\w*|-?(?:\d+(?:\.\d*)?|\.\d+))|(?P<sign>->|[{}\[\];,=])""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_NUMBERS: dict[str, Callable[[str], float]] = {
    **dict.fromkeys((*FIGURES, "direct_effect", "direct_effect_corrupt", "direct_effect_prompts"), float),
    "place": int,
}
_ESCAPES = {"n": "\n", "\n": "", "\r\n": ""}  # graphviz breaks long texts with a backslash at the end of a line
# Possessive (`++`): every file of unknown format comes here, and a loop that gives blanks back tries each way to split
# them, twice as many with every blank.
_START = re.compile(
    rb"\A(?:\xef\xbb\xbf)?(?:\s++|//[^\n]*+\n|/\*.*?\*/|\#[^\n]*+\n)*+(?:strict\s++)?(?:di)?graph\b", re.DOTALL
)
Token = tuple[str, str]
"""What it is (`word` for every name, quoted or not; `sign`; `end`) and its text."""


def graph_of_dot(path: Path) -> PlainGraph:
    """Reads the graph of a DOT file.

    Raises:
        CircuitFileError: The file cannot be read.
    """
    check_size(path)
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise CircuitFileError(f"{path} is no DOT: byte {error.start} is not UTF-8.") from error
    graph = _Reader(path, text).graph()
    carried = [line.removeprefix(COMMENT).rstrip("\r") for line in text.split("\n") if line.startswith(COMMENT)]
    if carried:
        graph.about[CARRIED] = "".join(carried)
    return graph


def is_dot(source: Source) -> bool:
    """Whether a file begins as DOT does."""
    return _START.match(source.head) is not None


class _Reader:
    """Goes through the tokens once."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = path, text
        self.tokens = self._tokens()
        self.next: Token = next(self.tokens)
        self.found = PlainGraph()

    def graph(self) -> PlainGraph:
        if self.next == ("word", "strict"):
            self._take()
        if self._take() != ("word", "digraph"):
            raise self._wrong("it is no digraph, and a circuit's edges have a direction")
        if self.next[0] == "word":
            self._take()
        self._sign("{")
        depth = 1
        while depth:
            kind, text = self._take()
            if (kind, text) == ("word", "subgraph"):
                if self.next[0] == "word":
                    self._take()
                self._sign("{")
                depth += 1
            elif kind == "word":
                self._statement(text)
            elif text in ("{", "}"):
                depth += 1 if text == "{" else -1
            elif text not in (";", ","):
                raise self._wrong(f"{text or 'its end'} stands where a node or an edge should")
            if text == "}" and self.next == ("sign", "->"):
                raise self._wrong("an edge starts at a subgraph")
        if self.next[0] != "end":
            raise self._wrong("it goes on after its graph")
        return self.found

    def _statement(self, name: str) -> None:
        if self.next == ("sign", "="):
            self._take()
            self._name()
            return
        chain = [name]
        while self.next == ("sign", "->"):
            self._take()
            chain.append(self._name())
        facts = self._attributes(" -> ".join(chain))
        if chain == ["graph"]:
            self.found.about.update(facts)
        if len(chain) == 1 and name not in ("graph", "node", "edge"):
            self.found.nodes.setdefault(name, {}).update(facts)
        for sender, target in pairwise(chain):
            for end in (sender, target):
                self.found.nodes.setdefault(end, {})
            self.found.edges.append((sender, target, dict(facts)))

    def _attributes(self, where: str) -> dict[str, Any]:
        facts: dict[str, Any] = {}
        while self.next == ("sign", "["):
            self._take()
            while self.next != ("sign", "]"):
                key = self._name()
                self._sign("=")
                value = self._name()
                facts[key] = value if key == CARRIED else unescaped(value)
                if key in _NUMBERS:
                    try:
                        facts[key] = _NUMBERS[key](value)
                    except ValueError as error:
                        raise self._wrong(f"{key} of {where[:100]} is {value[:60]!r}, no number") from error
                if self.next[1] in (",", ";") and self.next[0] == "sign":
                    self._take()
            self._take()
        return facts

    def _name(self) -> str:
        kind, text = self._take()
        if kind != "word":
            raise self._wrong(f"{text or 'its end'} stands where a name should")
        return text

    def _sign(self, sign: str) -> None:
        _, text = self._take()
        if text != sign:
            raise self._wrong(f"{text[:60] or 'its end'} stands where {sign} should")

    def _take(self) -> Token:
        taken = self.next
        if taken[0] != "end":
            self.next = next(self.tokens)
        return taken

    def _tokens(self) -> Iterator[Token]:
        self.place = 0
        while self.place < len(self.text):
            match = _TOKEN.match(self.text, self.place)
            if match is None:
                raise self._wrong(f"{self.text[self.place : self.place + 20]!r} is not understood")
            self.place = match.end()
            if match.lastgroup == "text":
                plain = re.sub(r"\\(\r\n|.)", lambda m: _ESCAPES.get(m[1], m[1]), match[0][1:-1], flags=re.DOTALL)
                yield "word", plain
            elif match.lastgroup != "skip":
                yield str(match.lastgroup), match[0]
        yield "end", ""

    def _wrong(self, what: str) -> CircuitFileError:
        line = self.text.count("\n", 0, self.place) + 1
        return CircuitFileError(
            f"{self.path} is no DOT that can be read, line {line}: {what}. Plain nodes and edges are read, as acdc "
            "export writes them."
        )


FORMAT = Format(
    name="dot",
    suffix="dot",
    title="Graphviz DOT: dot, pydot",
    write=writer(dot_text),
    read=reader("DOT", graph_of_dot),
    recognises=is_dot,
    lossy="",
)
