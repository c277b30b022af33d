"""Halves of prompts; inclusion rates, overlap and core, by hand."""

from itertools import islice

import pytest
import torch

from acdc_engine.errors import MethodError
from acdc_engine.evidence.repeats import (
    check_halves,
    check_kept,
    check_room,
    core_of,
    core_record,
    halves,
    repeats_of,
    scores_of,
    with_inclusion,
)
from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.records import ModelRecord
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.score import EdgeScores

GRAPH = Graph(GraphShape(2, 1, 1))
DIRECT = ("input->m0", "m0->logits")
LONG = ("input->m0", "m0->m1", "m1->logits")


def mask_of(*names: str) -> torch.Tensor:
    mask = torch.zeros_like(GRAPH.exists)
    for name in names:
        mask[GRAPH.parse_edge(name)] = True
    return mask


def prompts_of(*templates: str) -> PromptSet:
    tokens = torch.arange(2 * len(templates)).view(-1, 2)
    return PromptSet.from_tokens(tokens, tokens, templates=templates)


def test_each_pair_of_halves_holds_every_prompt_once_and_half_of_each_template() -> None:
    names = "AABAABABBBACAACAC"
    prompts = prompts_of(*names)
    drawn = list(islice(halves(prompts, seed=3), 6))
    for first, second in zip(drawn[::2], drawn[1::2], strict=True):
        assert sorted(first + second) == list(range(len(names))) and abs(len(first) - len(second)) <= 1
        for name in "ABC":
            counts = [sum(names[row] == name for row in half) for half in (first, second)]
            assert abs(counts[0] - counts[1]) <= 1
    assert len({tuple(half) for half in drawn}) == 6
    assert list(islice(halves(prompts, seed=3), 2)) == drawn[:2] != list(islice(halves(prompts, seed=4), 2))


def test_scores_of_some_prompts_are_their_means() -> None:
    each = torch.randn(5, *GRAPH.exists.shape, generator=torch.Generator().manual_seed(0))
    found = scores_of(EdgeScores(each.mean(0), per_example=each, method="eap"), [1, 4])
    assert torch.allclose(found.mean, (each[1] + each[4]) / 2) and found.method == "eap"
    assert found.rms is not None and torch.allclose(found.rms, ((each[1] ** 2 + each[4] ** 2) / 2) ** 0.5)
    with pytest.raises(MethodError, match=r"these are means over all of them.* fewer prompts \(--n\)"):
        check_kept(EdgeScores(each.mean(0)))


def test_too_few_prompts_or_too_many_are_refused() -> None:
    check_halves(16)
    with pytest.raises(MethodError, match="needs at least 16 of them, not 15: ask for more with --n, or leave"):
        check_halves(15)
    with pytest.raises(MethodError, match=r"there is one of B, C: ask for more"):
        check_halves(16, "AAAAAAABAAAAAAAC")
    check_room(GRAPH, 1000)
    with pytest.raises(MethodError, match=r"those of 40,000 prompts take 10\.4 GiB, more than is kept: ask"):
        check_room(Graph(GraphShape(12, 12, 12)), 40_000)


def test_rates_overlap_and_core_by_hand() -> None:
    circuits = [mask_of(*DIRECT)] * 9 + [mask_of(*LONG)]
    core = core_of(GRAPH, circuits)
    assert torch.equal(core, mask_of(*DIRECT))
    found = repeats_of(GRAPH, mask_of(*LONG), circuits, 12, 1, 8, core_record(GRAPH, core, None))
    assert (found.asked, found.made, found.failed, found.sizes) == (12, 11, 1, (2,) * 9 + (3,))
    # Of the 45 pairs 36 are alike; the others share one edge of four, and one MLP of two.
    assert found.edge_overlap == pytest.approx((36 + 9 / 4) / 45)
    assert found.node_overlap == pytest.approx((36 + 9 / 2) / 45)
    assert found.core is not None and (found.core.edges, found.core.nodes) == (DIRECT, 1)
    assert [(one.name, one.inclusion) for one in found.other_edges] == [("m0->logits", 0.9)]
    assert found.other_nodes == ()


def test_the_core_has_no_loose_ends() -> None:
    circuits = [mask_of(*DIRECT), mask_of(*LONG)]
    assert not core_of(GRAPH, circuits).any()  # input->m0 alone, from which nothing leads on
    empty = repeats_of(GRAPH, mask_of(*LONG), [], 5, 0, 8, None)
    assert (empty.made, empty.sizes, empty.edge_overlap, empty.core) == (0, (), None, None)


def test_edges_and_nodes_of_the_circuit_carry_their_rates() -> None:
    model = ModelRecord(name="made-up", n_layers=2, n_heads=1, n_kv_heads=1, d_model=8, d_vocab=10)
    circuit = Circuit.from_edges(model.model_copy(), LONG)
    found = with_inclusion(circuit, [mask_of(*LONG), mask_of(*DIRECT), mask_of(*DIRECT), mask_of(*DIRECT)])
    assert [edge.inclusion for edge in found.edges] == [1.0, 0.25, 0.25]
    assert {node.name: node.inclusion for node in found.nodes} == {"input": None, "m0": 1.0, "m1": 0.25, "logits": None}
    assert "inclusion" not in circuit.to_json() and with_inclusion(circuit, []) == circuit
    assert Circuit.model_validate_json(found.model_dump_json()) == found
