"""What the index says of a run: its cells, badges and drawing, and its edges as numbers."""

from itertools import accumulate
from typing import Any

import pytest

from acdc_engine.graph.blocks import GraphShape
from acdc_engine.graph.circuit import Circuit
from acdc_engine.show.index import _COLUMNS, _Cell, _compared, _Entry, _entry_of
from acdc_engine.show.thumbnail import HEIGHT, WIDTH
from tests.made_circuits import GPT2, PLACES, SMOLLM2, made_circuit
from tests.show.conftest import judged_as
from tests.show.index.runs import TINY, bare, lean, named


def entry(circuit: Circuit, name: str = "x") -> _Entry:
    return _entry_of("x", name, circuit)


def dated(created: str) -> Circuit:
    circuit = made_circuit(20)
    assert circuit.environment is not None
    return circuit.model_copy(update={"environment": circuit.environment.model_copy(update={"created": created})})


def badges(circuit: Circuit) -> list[str]:
    return [text for text, _ in entry(circuit).badges]


@pytest.mark.parametrize(
    ("faithfulness", "target", "badge"),
    [
        (0.95, 0.9, []),
        (1.1, 0.9, []),
        (0.85, 0.9, ["target missed"]),
        (1.25, 0.9, ["overshoots target"]),
        (0.2, None, []),
    ],
)
def test_a_target_that_was_missed_or_overshot_has_a_badge(
    faithfulness: float, target: float | None, badge: list[str]
) -> None:
    circuit = named(lean(20), faithfulness=faithfulness)
    assert circuit.search is not None
    search = circuit.search.model_copy(update={"target_faithfulness": target})
    assert badges(circuit.model_copy(update={"search": search})) == badge
    kl = search.model_copy(update={"objective": "kl"})  # of which .8125 are recovered
    assert badges(circuit.model_copy(update={"search": kl})) == (["target missed"] if target else [])
    assert badges(bare({"input->logits": 1.0})) == []


def test_a_circuit_that_must_not_be_called_faithful_has_a_badge_that_says_why() -> None:
    ((text, meaning),) = entry(judged_as(lean(20), faithfulness=0.95, kl_recovered=-0.5)).badges
    assert text == "not faithful" and "KL recovered is -0.500" in meaning


def test_a_found_circuit() -> None:
    circuit = named(made_circuit(20), "ioi", "gpt2", 0.95)
    assert circuit.evaluation is not None and circuit.evaluation.held_out.faithfulness_interval is not None
    interval = circuit.evaluation.held_out.faithfulness_interval
    cells = entry(circuit, "Runs/X").cells
    assert set(cells) == set(_COLUMNS)
    assert cells["name"] == _Cell("Runs/X", "runs/x")
    assert cells["edges"] == _Cell("20", "20")
    assert cells["faithfulness"] == _Cell("0.950", "0.95", f"{interval.low:.3f} to {interval.high:.3f}")
    assert cells["kl"] == _Cell("0.812", "0.8125")
    assert cells["seconds"] == _Cell("123", "123.4")
    assert cells["search"].text == "iterative" and cells["method"].text == "eap-ig"
    facts = dict(entry(circuit).circuit["facts"])
    assert (facts["Metric"], facts["Ablation"], facts["Edges"]) == ("logit_diff", "patch", "20 of 32,491")


@pytest.mark.parametrize(
    ("created", "text"),
    [
        ("2026-11-21T00:30:00+05:00", "2026-11-20 19:30"),
        ("last week", "last week"),
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00"),
    ],
)
def test_dates_are_in_utc(created: str, text: str) -> None:
    assert entry(dated(created)).cells["date"] == _Cell(text, text)


def test_drawn_lines_by_sign_and_strength() -> None:
    """Two MLPs stand at the right margin; the ends in the middle, at the bottom and at the top.

    Heights: 3.3 in all, the MLPs at 1.5 and 2.5, on 136 pixels above the lowest 7.
    """
    drawn = entry(bare({"input->m0": 2.0, "m0->m1": -0.4, "m1->logits": 0.1, "input->logits": -0.1}))
    paths = dict(drawn.paths)
    assert drawn.n_drawn == 4
    assert paths["edge thick positive"] == f"M120 {HEIGHT - 7}L{WIDTH - 7} 81"
    assert paths["edge middle negative"] == f"M{WIDTH - 7} 81L{WIDTH - 7} 40"
    assert paths["edge thin positive"] == f"M{WIDTH - 7} 40L120 7"
    assert paths["edge thin negative"] == f"M120 {HEIGHT - 7}L120 7"
    assert paths["node mlp"] == f"M{WIDTH - 7} 81h0M{WIDTH - 7} 40h0"
    # Weak ones lie below strong ones, and all below the nodes.
    kinds = [kind.split(" ")[1] for kind, _ in drawn.paths]
    assert kinds == ["thin", "thin", "middle", "thick", "input", "mlp", "logits"]
    assert entry(bare({})).paths == ()


def test_a_key_value_group_is_drawn_to_each_of_its_heads_and_unknown_effects_are_grey() -> None:
    drawn = entry(bare({"m0->a1.kv1<k>": None, "a1.h2->logits": None, "a1.h3->logits": None, "input->m0": None}))
    assert dict(drawn.paths)["edge thin unknown"].count("M") == 5  # one of the four goes to two heads


def page_data(*circuits: Circuit) -> dict[str, Any]:
    entries = [_entry_of(f"run-{place}", f"run {place}", circuit) for place, circuit in enumerate(circuits)]
    return _compared(entries)


def read_back(data: dict[str, Any], place: int) -> dict[str, float | None]:
    run = data["runs"][place]
    shape = data["shapes"][run["shape"]]
    names = {}
    for code, strength in zip(accumulate(run["edges"]), run["strengths"], strict=True):
        sender, receiver = divmod(code, len(shape["receivers"]))
        names[f"{shape['senders'][sender]}->{shape['receivers'][receiver]}"] = strength
    return names


@pytest.mark.parametrize("shape", [GPT2, SMOLLM2, GraphShape(3, 4, 1, parallel=True), GraphShape(2, 3, 3, mlps=False)])
def test_edges_and_effects_come_back(shape: GraphShape) -> None:
    effects = {"input->a0.h1<q>": -1.23456, "a0.h1->a1.h0<q>": 1e-9, "a1.h0->logits": None}
    data = page_data(bare(effects, shape))
    # One effect is not known: the measure of all of them is then the score, of which there is none.
    assert data["runs"][0]["measure"] is None
    assert read_back(data, 0) == dict.fromkeys(effects)
    known = bare(effects | {"a1.h0->logits": 12345.6}, shape)
    assert list(read_back(page_data(known), 0).values()) == [-1.235, 1e-9, 12350.0]


def test_runs_of_one_shape_share_it_and_shapes_are_said_in_words() -> None:
    parallel = bare({"input->logits": 1.0}, GraphShape(2, 4, 2, parallel=True))
    data = page_data(bare({"input->logits": 1.0}), parallel, bare({"input->m0": 1.0, "m0->logits": 1.0}))
    assert [run["shape"] for run in data["runs"]] == [0, 1, 0]
    words = {
        GPT2: "12 layers of 12 heads",
        TINY: "2 layers of 4 heads (2 key/value groups)",
        GraphShape(2, 4, 4, mlps=False): "2 layers of 4 heads, no MLPs",
        GraphShape(2, 4, 4, parallel=True): "2 layers of 4 heads, MLPs parallel to attention",
    }
    assert {shape: entry(bare({}, shape)).shape for shape in words} == words


def test_a_circuit_with_places_is_a_grid_and_says_at_how_many_its_edges_are() -> None:
    circuit = made_circuit(40, 3, SMOLLM2, places=PLACES)
    drawn = entry(circuit)
    places = len({edge.span for edge in circuit.edges})
    assert drawn.cells["edges"] == _Cell("40", "40", f"at {places} places")
    assert dict(drawn.circuit["facts"])["Edges"].startswith(f"40 at {places} places, of ")
    paths = dict(drawn.paths)
    assert paths["place"].count("M") == len(PLACES) // 2 and paths["attention"].count("M") >= 5
    assert 38 <= sum(data.count("M") for kind, data in paths.items() if kind.startswith("edge")) <= 40
    across = {node.name: x for node, x in zip(circuit.nodes, xs_of(circuit, paths), strict=True)}
    assert across["logits@end"] > max(x for name, x in across.items() if not name.endswith("@end"))
    assert entry(circuit.plain()).cells["edges"].note == ""


def xs_of(circuit: Circuit, paths: dict[str, str]) -> list[int]:
    """Where the nodes stand, in their order."""
    left = {kind: [int(one.split(" ")[0]) for one in data.split("M")[1:]] for kind, data in paths.items()}
    return [left[f"node {node.kind}"].pop(0) for node in circuit.nodes]
