"""Figures and words of a circuit, against what can be counted by hand."""

import pytest

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Example, NextToken
from acdc_engine.graph.nodes import nodes_of_edges
from acdc_engine.graph.records import CircuitEdge, DirectEffect, RoleScore
from acdc_engine.show.figures import classes, edges, sizes
from acdc_engine.show.report import _MOST_TOKENS, _headline, _spread, report_html
from acdc_engine.show.sections import Section, signed
from tests.made_circuits import made_circuit

EFFECTS = {"input->a0.h0<q>": 1.0, "a0.h0->m3": -2.0, "m3->logits": 0.5, "a0.h0->logits": 3.0}


def by_hand() -> Circuit:
    """input -> a0.h0 -> m3 -> logits, and a0.h0 -> logits."""
    made = made_circuit(12)
    edges = []
    for place, (name, effect) in enumerate(EFFECTS.items()):
        sender, receiver = name.split("->")
        share = place / 4
        edges.append(CircuitEdge(sender=sender, receiver=receiver, effect=effect, stability=share, necessity=1 - share))
    scores = (
        RoleScore(role="induction", value=0.5, threshold=0.4, prompts="task"),
        RoleScore(role="induction", value=0.75, threshold=0.4, prompts="random"),
        RoleScore(role="name mover", value=0.3, threshold=0.4, prompts="task"),
    )
    direct = DirectEffect(clean=-0.25, corrupt=0.0, n_prompts=64)
    head = {"role": "induction", "role_scores": scores, "direct_effect": direct}
    nodes = [
        node.model_copy(update=head if node.kind == "head" else {}) for node in nodes_of_edges(made.graph(), edges)
    ]
    return made.model_copy(update={"nodes": tuple(nodes), "edges": tuple(edges)})


def rows(section: Section) -> list[list[str]]:
    """Heading and rows of a section's table."""
    assert section.table is not None
    heading = [column.name for column in section.table.columns]
    return [heading, *([cell.text for cell in row] for row in section.table.rows)]


def test_nodes_by_hand() -> None:
    """The head's class first, then the others by the summed |effect| of their edges."""
    assert rows(classes(by_hand(), 120)) == [
        ["node", "class", "measured roles", "direct effect", "edges in", "edges out", "effect read", "effect written"],
        ["a0.h0", "induction", "induction 0.50 (task), 0.75 (random tokens)", "-0.250", "1", "2", "+1.0000", "+1.0000"],
        ["logits", "", "", "", "2", "0", "+3.5000", ""],
        ["m3", "MLP", "", "", "1", "1", "-2.0000", "+0.5000"],
        ["input", "", "", "", "0", "1", "", "+1.0000"],
    ]
    assert len(classes(by_hand(), 120).notes) == 3


def test_edges_by_hand_and_no_columns_of_what_is_not_known() -> None:
    found = edges(by_hand())
    assert rows(found) == [
        ["edge", "effect", "stability", "necessity"],
        ["a0.h0 -> logits", "+3.0000", "75%", "25%"],
        ["a0.h0 -> m3", "-2.0000", "25%", "75%"],
        ["input -> a0.h0<q>", "+1.0000", "0%", "100%"],
        ["m3 -> logits", "+0.5000", "50%", "50%"],
    ]
    assert found.left == 0 and edges(by_hand(), 1).left == 3


@pytest.mark.parametrize(
    ("value", "style", "text", "sign"),
    [
        (0.12345, ".4f", "+0.1235", "positive"),
        (-1.0, ".4f", "-1.0000", "negative"),
        (-0.00001, ".4f", "0.0000", ""),
        (-0.00001, ".1e", "-1.0e-05", "negative"),
        (0.0, ".4f", "0.0000", ""),
    ],
)
def test_signs(value: float, style: str, text: str, sign: str) -> None:
    cell = signed(value, style)
    assert (cell.text, cell.value, cell.style) == (text, value, sign)


def test_sizes_say_which_is_the_circuit_and_how_many_random_ones() -> None:
    found = sizes(made_circuit(100))
    assert found.table is not None and found.table.own is not None
    _, *shown = rows(found)
    assert shown[found.table.own][0] == "the circuit" and shown[-1][0] == "with the best other edges"
    assert all(row[-1].endswith(" (5)") for row in shown)


def test_spread_by_hand() -> None:
    """Stability 0, 25, 50 and 75 %: of four values the median is the third, from below."""
    assert _spread(by_hand(), "stability") == (
        "Stability of an edge is the share of bootstrap resamples of the discovery prompts in which its score is among "
        "the strongest 4 of the whole model: median 50%; 0 of 4 edges at 90% or more, 2 below 50%. Lowest: "
        "input -> a0.h0<q> (0%), a0.h0 -> m3 (25%), m3 -> logits (50%)."
    )
    unknown = tuple(edge.model_copy(update={"necessity": None}) for edge in by_hand().edges)
    assert _spread(by_hand().model_copy(update={"edges": unknown}), "necessity") == ""


def test_headline_under_kl_and_without_a_target() -> None:
    circuit = made_circuit(20)
    assert circuit.search is not None
    kl = circuit.search.model_copy(update={"objective": "kl", "target_faithfulness": 0.8})
    assert "with KL recovered 0.8: found 20 of" in _headline(circuit.model_copy(update={"search": kl}))
    free = circuit.search.model_copy(update={"target_faithfulness": None, "settings": {}})
    assert _headline(circuit.model_copy(update={"search": free})).startswith("A circuit of made-up for ioi: 20 of")
    for settings, asked in (
        ({"rank": "absolute", "size": 25}, "with at most 25 edges"),
        ({"size": 1}, "with at most 1 edge"),
        ({"threshold": 0.01}, "with the threshold 0.01"),
    ):
        sized = circuit.model_copy(update={"search": free.model_copy(update={"settings": settings})})
        assert _headline(sized).startswith(f"Asked for a circuit of made-up for ioi {asked}: found 20 of")
        judged_elsewhere = sized.model_copy(update={"cost": None})
        assert _headline(judged_elsewhere).startswith("A circuit of made-up for ioi: 20 of")


def test_examples_of_unlike_lengths_and_long_ones() -> None:
    long = tuple(f" {number}" for number in range(_MOST_TOKENS + 10))
    short = Example(
        clean=("a", " b"), corrupt=("a",), read_at=1, answers=("x",), next_clean=(NextToken(text="x", probability=1),)
    )
    many = Example(clean=long, corrupt=long, read_at=0)
    page = report_html(made_circuit(12).model_copy(update={"examples": (short, many)}))
    first, second = page.split("<h3>Example 1</h3>")[1].split("<h3>Example 2</h3>")
    assert first.count('class="token') == 3 and 'strange differs read">·b<' in first
    assert "100.0% right" in first and "corrupt</caption>" not in first
    assert second.count('gap">10 more<') == 2 and second.count('class="token') == 2 * (_MOST_TOKENS + 1)
