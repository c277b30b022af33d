"""Circuits in a page: small, and the same circuits."""

from itertools import accumulate
from typing import Any

import pytest

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.names import GraphShape
from acdc_engine.show.gallery.compact import Compared, distances, shape_in_words
from acdc_engine.show.gallery.entries import entry_of
from acdc_engine.show.html.page import json_text
from tests.made_circuits import GPT2, HOSTILE, SMOLLM2, made_circuit
from tests.show.gallery.folders import bare, lean


def compared(*circuits: Circuit, budget: int = 10**9) -> tuple[dict[str, Any], list[str]]:
    collected = Compared(budget)
    for place, circuit in enumerate(circuits):
        collected.add(entry_of(f"run-{place}", f"run {place}", circuit), circuit)
    return collected.page_data()


def read_back(data: dict[str, Any], place: int) -> dict[str, float | None]:
    run = data["runs"][place]
    shape = data["shapes"][run["shape"]]
    names = {}
    for code, strength in zip(accumulate(run["edges"]), run["strengths"], strict=True):
        sender, receiver = divmod(code, len(shape["receivers"]))
        names[f"{shape['senders'][sender]}->{shape['receivers'][receiver]}"] = strength
    return names


def test_distances() -> None:
    assert distances([3, 4, 10]) == [3, 1, 6]
    assert distances([]) == []


@pytest.mark.parametrize("shape", [GPT2, SMOLLM2, GraphShape(3, 4, 1, parallel=True), GraphShape(2, 3, 3, mlps=False)])
def test_edges_and_effects_come_back(shape: GraphShape) -> None:
    circuit = bare({"input->a0.h1<q>": -1.23456, "a0.h1->a1.h0<q>": 1e-9, "a1.h0->logits": None}, shape)
    assert circuit.shape() == shape
    data, left_out = compared(circuit)
    # One effect is not known: the measure of all of them is then the score, of which there is none.
    assert left_out == [] and data["runs"][0]["measure"] is None
    assert read_back(data, 0) == dict.fromkeys(("input->a0.h1<q>", "a0.h1->a1.h0<q>", "a1.h0->logits"))
    known = bare({"input->a0.h1<q>": -1.23456, "a0.h1->a1.h0<q>": 1e-9, "a1.h0->logits": 12345.6}, shape)
    assert read_back(compared(known)[0], 0) == {
        "input->a0.h1<q>": -1.235,
        "a0.h1->a1.h0<q>": 1e-9,
        "a1.h0->logits": 12350.0,
    }


def test_a_hundred_circuits_of_a_thousand_edges_are_a_few_megabytes() -> None:
    data, _ = compared(*[lean(1000, seed, SMOLLM2) for seed in range(2)])
    assert len(json_text(data["runs"])) / 2 < 25_000
    assert len(json_text(data["shapes"])) < 15_000


def test_runs_of_one_shape_share_it_and_models_that_differ_do_not() -> None:
    parallel = bare({"input->logits": 1.0}, GraphShape(2, 4, 2, parallel=True))
    data, _ = compared(bare({"input->logits": 1.0}), parallel, bare({"input->m0": 1.0, "m0->logits": 1.0}))
    assert [run["shape"] for run in data["runs"]] == [0, 1, 0]


def test_the_largest_are_left_out_where_there_is_no_room() -> None:
    small, large = made_circuit(20, 0), made_circuit(400, 1)
    data, left_out = compared(large, small, budget=6_000)
    assert left_out == ["run-0"]
    assert data["runs"][0]["edges"] is None and data["runs"][0]["name"] == "run 0"
    assert len(read_back(data, 1)) == 20


def test_roles_are_cut() -> None:
    hostile = made_circuit(40, 0, hostile=True)
    data, _ = compared(hostile)
    roles = data["runs"][0]["roles"]
    assert roles and all(len(role) < 150 and role.isprintable() for role in roles.values())
    assert any(role.startswith(HOSTILE[0][:20]) for role in roles.values())


def test_shapes_in_words() -> None:
    assert shape_in_words(GPT2) == "12 layers of 12 heads"
    assert shape_in_words(SMOLLM2) == "30 layers of 9 heads (3 key/value groups)"
    assert shape_in_words(GraphShape(2, 4, 4, mlps=False)) == "2 layers of 4 heads, no MLPs"
    assert shape_in_words(GraphShape(2, 4, 4, parallel=True)) == "2 layers of 4 heads, MLPs parallel to attention"
