"""What `acdc show` prints, word by word, and that it fits 80 columns; what `acdc verify` prints."""

import pytest

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Certificate, Completeness, Indispensable, Interval, RandomCircuits
from acdc_engine.graph.nodes import with_roles
from acdc_engine.graph.records import SearchRecord
from acdc_engine.show.figures import whole
from acdc_engine.show.remarks import remarks
from tests.show.conftest import evaluated, hypothesis_test, judged_as, lines_of


def printed(circuit: Circuit, max_edges: int | None = 40, width: int = 80) -> list[str]:
    return lines_of(whole(circuit, max_edges), width)


def test_header(found: Circuit) -> None:
    lines = printed(found)
    assert lines[:10] == [
        "Circuit 8 of 82 edges, 6 of 12 nodes",
        "Model tiny [v1]: LlamaForCausalLM, 2 layers, 4 heads, 2 k/v heads",
        "Task ioi: 64 discovery and 32 held-out prompts, seed 7",
        "Metric logit_diff, higher supports the behaviour",
        "Scores eap-ig (steps 5)",
        "Search iterative",
        "Target faithfulness 0.9 on the discovery prompts",
        "Ablation patch: edges outside the circuit carry the corrupt run's activations",
        "Cost 212 s, 700 forward passes' worth of time, 1.5 GiB at most, 1,312",
        "circuits run exactly",
    ]


def test_nodes_by_layer_last_on_top(grouped: Circuit) -> None:
    lines = printed(grouped)
    start = lines.index("Nodes (edges in, edges out)")
    assert lines[start + 1 : start + 6] == [
        "layer heads MLP",
        "logits (3, 0)",
        '1 h2 the "mover" (3, 1) h3 (2, 1)',
        "0 h1 (1, 2) m0 (1, 2)",
        "input (0, 2)",
    ]


def test_edges_by_strength(grouped: Circuit) -> None:
    lines = printed(grouped, max_edges=3)
    start = lines.index("Edges, strongest effect first (positive: the edge supports the behaviour)")
    assert lines[start + 1 :] == [
        "edge effect score",
        "a1.h2 -> logits +4.0000 +2.0000",
        "a1.h3 -> logits -3.0000 -1.5000",
        "a0.h1 -> a1.kv1<v> +2.0000 +1.0000",
        "... and 5 more: --all",
    ]
    assert not any("more" in line for line in printed(grouped, max_edges=None))


@pytest.fixture
def judged(found: Circuit) -> Circuit:
    """As `acdc evaluate` writes it: with intervals, baseline, completeness, tests, certificate, figures per edge."""
    interval = Interval(level=0.95, low=0.8125, high=1.0625, method="BCa", resamples=9999)
    kl_interval = interval.model_copy(update={"low": 0.75})
    tests = (
        hypothesis_test("equivalence", 0.5, "The circuit is above on 30 of 64 prompts."),
        hypothesis_test("minimality", 0.003, "2 edges do no more than random ones.", rejected=True),
    )
    judged = evaluated(
        judged_as(found, faithfulness_interval=interval, kl_interval=kl_interval),
        random_circuits=RandomCircuits(faithfulness=(-0.25, 0.5, 0.125), p_value=0.25, seed=0),
        completeness=Completeness(faithfulness=0.125, kl_recovered=0.375, discovery=0.0625),
        indispensable=Indispensable(
            objective="faithfulness", low=0.9, without={"input->m0": 0.5, "m0->logits": 0.95, "a1.h2->logits": 0.25}
        ),
        tests=tests,
    )
    certificate = Certificate(objective="faithfulness", low=0.9, high=1.1, value=0.9375, minimal=True)
    edges = tuple(
        edge.model_copy(update={"without": 0.5, "stability": 0.875, "necessity": 1.0}) for edge in found.edges
    )
    return judged.model_copy(update={"certificate": certificate, "edges": edges})


def test_evidence(judged: Circuit) -> None:
    lines = printed(judged, width=1000)
    start = lines.index("What speaks for it and against it")
    assert lines[start + 1 : start + 7] == [
        "certificate 1-minimal, no edge can go: faithfulness 0.938 on the discovery prompts lies in [0.9, 1.1], and "
        "without any one edge it does not",
        "random circuits 3 with 8 edges each: faithfulness -0.250 to 0.500, mean 0.125; none as near to 1 as this one "
        "(p 0.25)",
        "joint necessity the model without these 8 edges together has faithfulness 0.125 (0.062 on the discovery "
        "prompts) and KL recovered 0.375: jointly necessary",
        "indispensable 2 of the 3 edges tried, largest |score| first: without one of them alone the model's "
        "faithfulness is below 0.9: a1.h2->logits 0.250, input->m0 0.500",
        "equivalence not rejected (p 0.5, corrected). The circuit is above on 30 of 64 prompts.",
        "minimality REJECTED (p 0.003, corrected). 2 edges do no more than random ones.",
    ]


def test_edges_with_everything(judged: Circuit) -> None:
    lines = printed(judged, max_edges=1)
    start = lines.index("Edges, strongest effect first (positive: the edge supports the behaviour)")
    assert lines[start + 1 :] == [
        "without: faithfulness without the edge, discovery prompts",
        "stability: share of resampled prompts whose scores select it",
        "necessity: share of resampled prompts that miss the target without it",
        "stabi- neces-",
        "edge effect score without lity sity",
        "a1.h2 -> logits +4.0000 +2.0000 0.5000 88% 100%",
        "... and 7 more: --all",
    ]


def test_a_target_in_kl_is_called_so_and_judged_so(judged: Circuit) -> None:
    search = SearchRecord(strategy="iterative", objective="kl", target_faithfulness=0.9)
    aimed = judged.model_copy(update={"search": search})
    assert "Target KL recovered 0.9 on the discovery prompts" in printed(aimed)
    assert "without: KL recovered without the edge, discovery prompts" in printed(aimed)
    assert any("held-out prompts the KL recovered, 0.812, lies outside the target" in text for text in remarks(aimed))
    assert not any("lies outside the target" in text for text in remarks(judged))


def test_a_circuit_no_better_than_random_ones_is_remarked_on(judged: Circuit) -> None:
    random = RandomCircuits(faithfulness=(0.9, 1.0, 0.125), p_value=0.75, seed=0)
    found = remarks(evaluated(judged, random_circuits=random))
    assert (
        "2 of 3 random circuits of the same size are at least as faithful (p 0.75): this one is not shown to be "
        "better than chance." in found
    )
    assert any(text.startswith("3 random circuits are too few to show that this one") for text in remarks(judged))


@pytest.mark.parametrize(
    ("own", "random", "p_value", "said"),
    [
        (2.25, (0.0, 0.125, 1.5), 1.0, "the circuit overshoots: its held-out faithfulness, 2.250, is so far above 1"),
        (0.5, (1.4, 0.75, -0.5), 0.75, "2 of 3 random circuits of the same size are at least as faithful ("),
    ],
)
def test_who_overshoots_is_said(
    judged: Circuit, own: float, random: tuple[float, ...], p_value: float, said: str
) -> None:
    drawn = RandomCircuits(faithfulness=random, p_value=p_value, seed=0)
    circuit = evaluated(judged_as(judged, faithfulness=own), random_circuits=drawn)
    (found,) = [text for text in remarks(circuit) if "random" in text]
    assert found.startswith(said)
    assert ("not shown to be better than chance" in found) == (own < 1)


@pytest.mark.parametrize("width", [80, 120])
def test_nothing_is_cut_off(found: Circuit, judged: Circuit, width: int) -> None:
    for circuit in (found, judged):
        assert not any("…" in line for line in printed(circuit, width=width))


def test_roles_of_edges_have_a_column_where_there_are_any(found: Circuit) -> None:
    assert not any("->" in line and "mover" in line for line in printed(found))
    edges = with_roles(found.graph(), found.nodes, found.edges)
    hand = found.model_copy(update={"edges": edges, "rule": "Everything to everything.", "made_by": "a script"})
    lines = printed(hand)
    assert 'a1.h2 -> logits +4.0000 +2.0000 the "mover" -> logits' in lines
    assert "Rule Everything to everything." in lines and "Made by a script" in lines
