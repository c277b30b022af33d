"""Rows of the report's tables, words and examples, against what can be counted by hand."""

import pytest

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Example, NextToken
from acdc_engine.graph.nodes import nodes_of_edges
from acdc_engine.graph.records import CircuitEdge, DirectEffect, RoleScore
from acdc_engine.show.report.examples import MOST_TOKENS, example_parts
from acdc_engine.show.report.tables import MOST_NODES, edge_rows, node_rows, signed, size_rows
from acdc_engine.show.report.words import headline, spread
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
        node.model_copy(update=head if node.kind == "head" else {}) for node in nodes_of_edges(made.layout(), edges)
    ]
    return made.model_copy(update={"nodes": tuple(nodes), "edges": tuple(edges)})


def test_nodes_by_hand() -> None:
    """The head's class first, then the others by the summed |effect| of their edges."""
    found = node_rows(by_hand())
    assert [(row.name, row.role, row.classed) for row in found.rows] == [
        ("a0.h0", "induction", True),
        ("logits", "", False),
        ("m3", "MLP", False),
        ("input", "", False),
    ]
    head, logits, mlp, start = found.rows
    assert head.measured == ["induction 0.50 (task), 0.75 (random tokens)"] and head.direct.text == "-0.250"
    assert [(row.edges_in, row.edges_out) for row in found.rows] == [(1, 2), (2, 0), (1, 1), (0, 1)]
    assert [row.read.value for row in (head, logits, mlp)] == [1.0, 3.5, -2.0] and start.read.text == ""
    assert [row.written.text for row in (head, logits, mlp, start)] == ["+1.0000", "", "+0.5000", "+1.0000"]
    assert (found.left, found.measure, found.measured, found.direct) == (0, "effect", True, True)


def test_many_nodes_are_cut() -> None:
    circuit = made_circuit(1000)
    found = node_rows(circuit)
    assert len(found.rows) == MOST_NODES and found.left == len(circuit.nodes) - MOST_NODES


def test_edges_by_hand() -> None:
    found = edge_rows(by_hand())
    assert found.columns == ["effect", "stability", "necessity"] and (found.left, found.roles) == (0, False)
    assert [(row.name, [cell.text for cell in row.cells]) for row in found.rows] == [
        ("a0.h0 -> logits", ["+3.0000", "75%", "25%"]),
        ("a0.h0 -> m3", ["-2.0000", "25%", "75%"]),
        ("input -> a0.h0<q>", ["+1.0000", "0%", "100%"]),
        ("m3 -> logits", ["+0.5000", "50%", "50%"]),
    ]


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
    assert (cell.text, cell.value, cell.sign) == (text, value, sign)


def test_sizes_say_which_is_the_circuit_and_how_many_random_ones() -> None:
    rows = size_rows(made_circuit(100))
    assert [row.own for row in rows].count(True) == 1 and rows[-1].kind == "with the best other edges"
    assert all(row.random.endswith(" (5)") for row in rows)


def test_spread_by_hand() -> None:
    """Stability 0, 25, 50 and 75 %: of four values the median is the third, and there are no quartiles."""
    assert spread(by_hand(), "stability") == (
        "Stability of an edge is the share of bootstrap resamples of the discovery prompts in which its score is among "
        "the strongest 4 of the whole model: median 50%; 0 of 4 edges at 90% or more, 2 below 50%. Lowest: "
        "input -> a0.h0<q> (0%), a0.h0 -> m3 (25%), m3 -> logits (50%)."
    )
    unknown = tuple(edge.model_copy(update={"necessity": None}) for edge in by_hand().edges)
    assert spread(by_hand().model_copy(update={"edges": unknown}), "necessity") == ""
    same = tuple(edge.model_copy(update={"necessity": 1.0}) for edge in by_hand().edges)
    assert spread(by_hand().model_copy(update={"edges": same}), "necessity").endswith(
        "the circuit itself meets it: 100% for all 4."
    )


def test_spread_of_eight_has_quartiles() -> None:
    made = made_circuit(12)
    edges = tuple(edge.model_copy(update={"stability": place / 10}) for place, edge in enumerate(made.edges[:8]))
    told = spread(made.model_copy(update={"edges": edges}), "stability")
    assert "median 40%, middle half 20% to 50%; 0 of 8 edges" in told  # ranks 4, 2 and 5 of 0 to 7


def test_headline_under_kl_and_without_a_target() -> None:
    circuit = made_circuit(20)
    assert circuit.search is not None
    kl = circuit.search.model_copy(update={"objective": "kl", "target_faithfulness": 0.8})
    assert "with KL recovered 0.8: found 20 of" in headline(circuit.model_copy(update={"search": kl}))
    free = circuit.search.model_copy(update={"target_faithfulness": None, "settings": {}})
    assert headline(circuit.model_copy(update={"search": free})).startswith("A circuit of made-up for ioi: 20 of")
    for settings, asked in (
        ({"rank": "absolute", "size": 25}, "with at most 25 edges"),
        ({"size": 1}, "with at most 1 edge"),
        ({"threshold": 0.01}, "with the threshold 0.01"),
    ):
        sized = circuit.model_copy(update={"search": free.model_copy(update={"settings": settings})})
        assert headline(sized).startswith(f"Asked for a circuit of made-up for ioi {asked}: found 20 of")
        judged_elsewhere = sized.model_copy(update={"cost": None})
        assert headline(judged_elsewhere).startswith("A circuit of made-up for ioi: 20 of")


def test_examples_of_unlike_lengths_and_long_ones() -> None:
    long = tuple(f" {number}" for number in range(MOST_TOKENS + 10))
    short = Example(
        clean=("a", " b"), corrupt=("a",), read_at=1, answers=("x",), next_clean=(NextToken(text="x", probability=1),)
    )
    many = Example(clean=long, corrupt=long, read_at=0)
    first, second = example_parts(made_circuit(12).model_copy(update={"examples": (short, many)}))
    assert [token.mark for token in first.clean] == ["", "differs read"] and len(first.corrupt) == 1
    assert first.next_clean[0].right and first.next_clean[0].percent == "100.0%" and first.next_corrupt == []
    gaps = [token.text for token in second.clean if token.mark == "gap"]
    assert gaps == ["10 more"] and len(second.clean) == MOST_TOKENS + 1


def test_small_effects_have_digits() -> None:
    circuit = by_hand()
    edges = tuple(edge.model_copy(update={"effect": 3e-5 * (edge.effect or 0)}) for edge in circuit.edges)
    rows = edge_rows(circuit.model_copy(update={"edges": edges})).rows
    assert [row.cells[0].text for row in rows] == ["+9.0e-05", "-6.0e-05", "+3.0e-05", "+1.5e-05"]
