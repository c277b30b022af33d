"""What `acdc show` prints, word by word, and that it fits 80 columns."""

import io

import pytest
from rich.console import Console

from acdc_engine.export.text import show
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.layout import GraphShape
from tests.export.conftest import Make


def printed(circuit: Circuit, max_edges: int | None = 40, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(show(circuit, max_edges))
    assert isinstance(console.file, io.StringIO)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


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
        "Cost 212 s (700 forward passes' worth), 1.5 GiB at most, 1,312 circuits run",
        "exactly",
    ]


def test_figures_side_by_side(found: Circuit) -> None:
    lines = printed(found)
    start = lines.index("How well it does the task")
    assert lines[start + 1 : start + 11] == [
        "discovery held-out",
        "prompts 64 64",
        "faithfulness 0.938 0.906",
        "KL recovered 0.812 0.812",
        "prompts judged as the model does 98.4% 98.4%",
        "normalised error 0.125 0.125",
        "logit_diff, model on clean prompts 3.500 3.500",
        "logit_diff, model on corrupt prompts -3.250 -3.250",
        "logit_diff, circuit 2.750 2.750",
        "accuracy, model 100.0% 100.0%",
    ]


@pytest.mark.parametrize(
    ("ablation", "label"),
    [
        ("patch", "model on corrupt prompts"),
        (None, "model on corrupt prompts"),
        ("mean", "everything ablated"),
        ("zero", "everything ablated"),
    ],
)
def test_the_zero_point_is_called_what_it_is(found: Circuit, ablation: str | None, label: str) -> None:
    lines = printed(found.model_copy(update={"ablation": ablation}))
    assert f"logit_diff, {label} -3.250 -3.250" in lines


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


def test_scores_alone_rank_by_score(make: Make) -> None:
    circuit = make(GraphShape(2, 1, 1), {"input->m0": 0.5, "m0->logits": -3.0, "input->logits": None})
    lines = printed(circuit)
    assert lines[-5:] == [
        "Edges, strongest score first (positive: the edge supports the behaviour)",
        "edge score",
        "m0 -> logits -3.0000",
        "input -> m0 +0.5000",
        "input -> logits",
    ]


def test_hand_written_circuits_have_edges_and_source_only(make: Make) -> None:
    circuit = make(GraphShape(2, 1, 1), {"input->logits": None}).model_copy(update={"source": "a paper"})
    lines = printed(circuit)
    assert "Source a paper" in lines and "Edges" in lines
    assert not any(line.startswith(("Task", "How well")) for line in lines)


@pytest.mark.parametrize("width", [80, 120])
def test_nothing_is_cut_off(found: Circuit, width: int) -> None:
    assert not any("…" in line for line in printed(found, width=width))
