"""DOT: its structure line by line, graphviz itself where it is installed, and DOT by other hands."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.dot import dot_text, quote
from acdc_engine.formats.format import Source
from acdc_engine.formats.from_dot import is_dot
from acdc_engine.formats.registry import import_circuit
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.nodes import with_roles
from tests.made_circuits import made_circuit

TEXT = r'"(?:[^"\\]|\\.)*"'
NODE = re.compile(rf"({TEXT}) \[label=({TEXT}), shape=\"(\w+)\"")
EDGE = re.compile(
    r'^  "([^"]+)" -> "([^"]+)" \[color="(#\w{6})", penwidth="([\d.]+)", style="(\w+)", tooltip="([^"]*)", (.*)\];$',
    re.M,
)
needs_graphviz = pytest.mark.skipif(shutil.which("dot") is None, reason="no graphviz: apt-get install graphviz")


def test_edges_with_colour_style_and_width(grouped: Circuit) -> None:
    edges = {
        (s, t, style): (colour, float(width), tip)
        for s, t, colour, width, style, tip, _ in EDGE.findall(dot_text(grouped))
    }
    assert {(s, t) for s, t, _ in edges} == {(s, t) for s, t, _ in grouped.to_networkx().edges}
    assert edges["input", "a0.h1", "dashed"] == ("#0072B2", 2.25, "input->a0.h1<q> +1")
    assert edges["a0.h1", "a1.kv1", "dotted"] == ("#0072B2", 1.38, "a0.h1->a1.kv1<k> +0.25")
    assert edges["a1.h3", "logits", "solid"][0] == "#D55E00"
    assert edges["a1.h2", "logits", "solid"][1] == max(width for _, width, _ in edges.values()) == 4.0


def test_figures_are_attributes(grouped: Circuit) -> None:
    facts = {(s, t): facts for s, t, *_, facts in EDGE.findall(dot_text(grouped))}
    assert facts["input", "m0"] == 'kind="mlp", receiver="m0", score="-0.25", effect="-0.5", place="1"'


def test_ranks_follow_the_layers(grouped: Circuit) -> None:
    ranks = [[name for name, _, _ in NODE.findall(line)] for line in dot_text(grouped).splitlines() if "rank=" in line]
    assert ranks == [['"input"'], ['"a0.h1"'], ['"m0"'], ['"a1.h2"', '"a1.h3"', '"a1.kv1"'], ['"logits"']]
    assert "rank=min" in dot_text(grouped) and "rank=max" in dot_text(grouped) and "rankdir=BT" in dot_text(grouped)


def test_roles_are_escaped(grouped: Circuit) -> None:
    labels = {name: label for name, label, _ in NODE.findall(dot_text(grouped))}
    assert labels['"a1.h2"'] == r'"a1.h2\nthe \"mover\""'
    assert quote('a\\b"c\n\x00') == r'"a\\b\"c\n\\u0000"'


def test_roles_are_attributes_of_edges(grouped: Circuit) -> None:
    edges = with_roles(grouped.layout(), grouped.nodes, grouped.edges)
    text = dot_text(grouped.model_copy(update={"edges": edges}))
    (line,) = [line for line in text.splitlines() if '"a1.h2" -> "logits"' in line]
    assert r'sender_role="the \"mover\""' in line


def test_states_the_sign(grouped: Circuit) -> None:
    assert "positive: the edge supports the behaviour" in dot_text(grouped)


def test_unknown_scores_are_grey(grouped: Circuit) -> None:
    edges = tuple(edge.model_copy(update={"score": None, "effect": None}) for edge in grouped.edges)
    found = EDGE.findall(dot_text(grouped.model_copy(update={"edges": edges})))
    assert len(found) == len(edges) == 8 and {colour for _, _, colour, *_ in found} == {"#777777"}


@needs_graphviz
def test_graphviz_draws_it(grouped: Circuit) -> None:
    done = subprocess.run(["dot", "-Tsvg"], input=dot_text(grouped), capture_output=True, text=True, check=True)
    assert done.stdout.count('class="edge"') == 8 and not done.stderr


@needs_graphviz
def test_graphviz_takes_hostile_texts_and_long_ones() -> None:
    circuit = made_circuit(40, hostile=True)
    done = subprocess.run(["dot", "-Tsvg"], input=dot_text(circuit).encode(), capture_output=True, check=True)
    svg = done.stdout.decode()
    assert svg.count('class="edge"') == 40 and not done.stderr and "<script" not in svg


@needs_graphviz
def test_what_graphviz_writes_is_read(grouped: Circuit, tmp_path: Path) -> None:
    """Its own DOT has positions, other quotes and no comments: it no longer says of which model it is."""
    path = tmp_path / "again.dot"
    done = subprocess.run(["dot", "-Tdot"], input=dot_text(grouped), capture_output=True, text=True, check=True)
    path.write_text(done.stdout)
    with pytest.raises(CircuitFileError, match="DOT without the engine's attribute 'acdc_engine', which does not say"):
        import_circuit(path, fmt="dot")
    read = import_circuit(path, fmt="dot", model=grouped.model)
    bare = [edge.model_copy(update={"sender_role": None, "receiver_role": None}) for edge in read.edges]
    assert bare == list(grouped.edges) and read.nodes == grouped.nodes


BY_HAND = """
// by hand
strict digraph "my circuit" {
    graph [rankdir=BT]; node [shape=box]
    rankdir = TB /* twice */
    subgraph cluster_0 { "a0.h1" [role="first", color=red]; m0 }
    { rank=same; "a1.h2", "a1.h3" }
    input -> "a0.h1" [kind=q, score=0.5];
    "a0.h1" -> "a1.h2" [receiver="a1.kv1<k>" score=.25]
# a comment, too
    input -> m0 -> logits;
    "a1.h2" -> logits [score=-2]; "a1.h3" -> logits
}
"""


def test_dot_by_hand(grouped: Circuit, tmp_path: Path) -> None:
    path = tmp_path / "mine.dot"
    path.write_text(BY_HAND)
    read = import_circuit(path, fmt="dot", model=grouped.model)
    assert {f"{edge.sender}->{edge.receiver}": edge.score for edge in read.edges} == {
        "input->a0.h1<q>": 0.5,
        "a0.h1->a1.kv1<k>": 0.25,
        "input->m0": None,
        "m0->logits": None,
        "a1.h2->logits": -2.0,
        "a1.h3->logits": None,
    }
    assert {node.name: node.role for node in read.nodes if node.role} == {"a0.h1": "first"}
    assert read.source == (
        "mine.dot, DOT; 1 edges into shared keys or values, there for some heads only, now reach all of a group"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("graph { input -- logits }", "line 1: it is no digraph, and a circuit's edges have a direction"),
        ("digraph { input -> logits", "line 1: its end stands where a node or an edge should"),
        ("digraph {\n input -> }", r"line 2: \} stands where a name should"),
        ("digraph { input:n -> logits }", "line 1: ':n -> logits }' is not understood"),
        ("digraph {\n\n input -> logits [score=<b>] }", "line 3: '<b>\\] }' is not understood"),
        ("digraph { input -> logits [score=abc] }", "score of input -> logits is 'abc', no number"),
        ("digraph { input -> logits [score=nan] }", "edge input -> logits:\n  score is "),
        ("digraph { input -> logits [place=1.5] }", "place of input -> logits is '1.5', no number"),
        ("digraph { {input} -> logits }", "an edge starts at a subgraph"),
        ('digraph { input -> "logits }', "line 1: '\"logits }' is not understood"),
        ("digraph { input -> logits } digraph {}", "it goes on after its graph"),
        ("digraph { input -> a0.h1 }", "line 1: '.h1 }' is not understood"),
        ('digraph { input -> "a0.h1" }', "edge input -> a0.h1 does not say which input of the head it enters"),
        ("digraph { input -> input }", "edge input -> input cannot exist"),
    ],
)
def test_dot_that_is_refused(grouped: Circuit, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.dot"
    path.write_text(text)
    with pytest.raises(CircuitFileError, match=message):
        import_circuit(path, fmt="dot", model=grouped.model)


@pytest.mark.parametrize(
    "start", [b" " * 100_000, b" " * 40, b"/**/" * 10_000, b"/**/ " * 10_000, b"//\n" * 10_000, b"\n#\n" * 10_000]
)
@pytest.mark.parametrize("end", [b"hello", b"/*", b"/* digraph", b"// digraph", b"strict graphs"])
def test_what_is_no_dot_is_told_at_once(tmp_path: Path, start: bytes, end: bytes) -> None:
    """Each of these could be split in more ways than there is time for."""
    path = tmp_path / "x"
    path.write_bytes(start + end)
    with pytest.raises(CircuitFileError, match="is no circuit file: it is neither of this engine"):
        import_circuit(path)


@pytest.mark.parametrize(
    "start", ["", "\ufeff", " \n\t" * 9_000, "/**/" * 9_000 + "// x\n", "/* digraph * / */ ", "# x\n", "strict \n"]
)
def test_what_dot_may_begin_with(tmp_path: Path, start: str) -> None:
    path = tmp_path / "x"
    path.write_text(start + "digraph {}")
    assert is_dot(Source(path))


def test_long_texts_are_read(grouped: Circuit, tmp_path: Path) -> None:
    path = tmp_path / "x.dot"
    text = 'a\\"b' * 100_000
    path.write_text(f'digraph {{ input [role="{text}"]; input -> logits }}')
    assert import_circuit(path, fmt="dot", model=grouped.model).nodes[0].role == 'a"b' * 100_000
    path.write_text(f'digraph {{ input [role="{text}')
    with pytest.raises(CircuitFileError, match=r"line 1: .* is not understood"):
        import_circuit(path, fmt="dot", model=grouped.model)
