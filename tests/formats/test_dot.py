"""DOT: its structure line by line, and graphviz itself where it is installed."""

import re
import shutil
import subprocess

import pytest

from acdc_engine.formats.dot import dot_text, quote
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_check import with_roles

NODE = re.compile(r'("(?:[^"\\]|\\.)*") \[label=("(?:[^"\\]|\\.)*"), shape=(\w+)')
EDGE = re.compile(
    r'^  "([^"]+)" -> "([^"]+)" \[color="(#\w{6})", penwidth="([\d.]+)", style="(\w+)", tooltip="(.*)"\];$',
    re.M,
)


def test_edges_with_colour_style_and_width(grouped: Circuit) -> None:
    edges = {
        (s, t, style): (colour, float(width), tip)
        for s, t, colour, width, style, tip in EDGE.findall(dot_text(grouped))
    }
    assert {(s, t) for s, t, _ in edges} == {(s, t) for s, t, _ in grouped.to_networkx().edges}
    assert edges["input", "a0.h1", "dashed"] == ("#0072B2", 2.25, "input->a0.h1<q> +1")
    assert edges["a0.h1", "a1.h3", "dotted"] == ("#0072B2", 1.38, "a0.h1->a1.kv1<k> +0.25")
    assert edges["a1.h3", "logits", "solid"][0] == "#D55E00"
    assert edges["a1.h2", "logits", "solid"][1] == max(width for _, width, _ in edges.values()) == 4.0


def test_ranks_follow_the_layers(grouped: Circuit) -> None:
    ranks = [[name for name, _, _ in NODE.findall(line)] for line in dot_text(grouped).splitlines() if "rank=" in line]
    assert ranks == [['"input"'], ['"a0.h1"'], ['"m0"'], ['"a1.h2"', '"a1.h3"'], ['"logits"']]
    assert "rank=min" in dot_text(grouped) and "rank=max" in dot_text(grouped) and "rankdir=BT" in dot_text(grouped)


def test_roles_are_escaped(grouped: Circuit) -> None:
    labels = {name: label for name, label, _ in NODE.findall(dot_text(grouped))}
    assert labels['"a1.h2"'] == r'"a1.h2\nthe \"mover\""'
    assert quote('a\\b"c\n') == r'"a\\b\"c\n"'


def test_roles_are_attributes_of_edges(grouped: Circuit) -> None:
    edges = with_roles(grouped.layout(), grouped.nodes, grouped.edges)
    text = dot_text(grouped.model_copy(update={"edges": edges}))
    (line,) = [line for line in text.splitlines() if '"a1.h2" -> "logits"' in line]
    assert line.endswith(r'tooltip="a1.h2->logits +4", sender_role="the \"mover\""];')
    assert "_role" not in dot_text(grouped)


def test_states_the_sign(grouped: Circuit) -> None:
    assert "positive: the edge supports the behaviour" in dot_text(grouped)


def test_unknown_scores_are_grey(grouped: Circuit) -> None:
    edges = tuple(edge.model_copy(update={"score": None, "effect": None}) for edge in grouped.edges)
    found = EDGE.findall(dot_text(grouped.model_copy(update={"edges": edges})))
    assert len(found) == 10 and {colour for _, _, colour, *_ in found} == {"#777777"}


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed")
def test_graphviz_draws_it(grouped: Circuit) -> None:
    done = subprocess.run(["dot", "-Tsvg"], input=dot_text(grouped), capture_output=True, text=True, check=True)
    assert done.stdout.count('class="edge"') == 10 and not done.stderr
