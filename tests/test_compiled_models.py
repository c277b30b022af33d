"""The compiled models and their true circuits, by brute force over their inputs (see graphs/make/compiled_truth.py)."""

import dataclasses
import itertools
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import clean
from acdc_engine.model.load import load_model
from acdc_engine.model.view import TransformerView
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.run.discover import discover
from acdc_engine.score import get_method, score_edges
from acdc_engine.shipped import graphs_folder
from tests.task_generators import generator_module, module_at

NAMES = ["reverse", "frac-prevs", "hist", "double-hist", "sort", "sort-freq", "majority"]
EDGES = {
    "reverse": "input->a3.h0<v> a3.h0->logits",
    "frac-prevs": "input->m0 m0->a1.h0<v> a1.h0->logits",
    "hist": "input->a0.h0<q> input->a0.h0<k> a0.h0->m0 m0->logits",
    "double-hist": "input->a0.h0<q> input->a0.h0<k> a0.h0->m0 m0->a1.h0<q> m0->a1.h0<k> a1.h0->m1 m1->logits",
    "sort": "input->m0 m0->a1.h0<q> m0->a1.h0<k> a1.h0->m1 m1->a2.h0<k> input->a2.h0<v> a2.h0->logits",
    "sort-freq": "input->a0.h0<q> input->a0.h0<k> a0.h0->m0 m0->m1 m1->m2 m2->a3.h0<q> m2->a3.h0<k> a3.h0->m3 "
    "m3->a4.h0<k> input->a4.h0<v> a4.h0->logits",
    "majority": "input->a0.h0<k> input->a0.h1<k> a0.h0->m0 a0.h1->m0 m0->m1 m1->logits",
}
"""As one reads them off the RASP programs: whose operations' values reach which."""


@cache
def view_of(name: str) -> TransformerView:
    return load_model(f"tracr-{name}", device="cpu")


@cache
def truth_of(name: str) -> Circuit:
    return Circuit.load(graphs_folder() / f"tracr-{name}" / f"{name.replace('-', '_')}.json")


def parameters_of(name: str) -> Any:
    return generator_module("compiled").CompiledParameters.model_validate(
        find_task(f"tracr_{name.replace('-', '_')}").parameters
    )


def letters_of(name: str) -> list[int]:
    return [view_of(name).tokenizer.vocabulary.index(letter) for letter in parameters_of(name).letters]


def inputs_of(name: str, length: int) -> list[list[int]]:
    """All inputs of a length as token ids, the BOS token in front."""
    return [[0, *row] for row in itertools.product(letters_of(name), repeat=length)]


@cache
def script() -> Any:
    return module_at(graphs_folder() / "make" / "compiled_truth.py")


@pytest.mark.parametrize("name", NAMES)
def test_model_computes_its_function_on_every_input(name: str) -> None:
    view, parameters = view_of(name), parameters_of(name)
    words, function = view.tokenizer.vocabulary, generator_module("compiled").FUNCTIONS[parameters.function]
    for length in range(1, parameters.length + 1):
        inputs = inputs_of(name, length)
        logits = view.logits(torch.tensor(inputs))[:, 1:]
        top = logits.topk(2, -1)
        for row, found in zip(inputs, top.indices[..., 0].tolist(), strict=True):
            assert [words[i] for i in found] == function([words[i] for i in row[1:]])
        assert float((top.values[..., 0] - top.values[..., 1]).min()) > 9.9


@pytest.mark.parametrize("name", NAMES)
def test_truth_is_what_the_program_says_and_what_the_weights_give(name: str) -> None:
    graph, circuit = view_of(name).graph, truth_of(name)
    assert {f"{edge.sender}->{edge.receiver}" for edge in circuit.edges} == set(EDGES[name].split())
    assert torch.equal(circuit.mask(), script().bound(view_of(name), letters_of(name)))
    assert circuit == script().truth(name)
    assert circuit.shape() == graph.shape


@pytest.mark.parametrize("name", NAMES)
def test_true_edges_suffice_and_each_is_needed_on_all_pairs_of_short_inputs(name: str) -> None:
    letters = "".join(parameters_of(name).letters)
    # 3 * 2 pairs of one token, 9 * 8 of two, 27 * 26 of three; read at every position.
    assert script().check(view_of(name), truth_of(name).mask(), letters, longest=3) == 3 * 2 + 9 * 8 * 2 + 27 * 26 * 3


def one_corruption_each(name: str, length: int, step: int) -> PromptSet:
    """Every input as a clean prompt, with the input `step` places further as its corrupt one, at every position."""
    inputs = inputs_of(name, length)
    clean = [row for row in inputs for _ in range(length)]
    corrupt = [row for row in inputs[step:] + inputs[:step] for _ in range(length)]
    return PromptSet.from_tokens(clean, corrupt, read_at=list(range(1, length + 1)) * len(inputs))


@pytest.mark.parametrize("name", NAMES)
def test_true_edges_alone_give_the_models_logits_on_every_longest_input(name: str) -> None:
    mask = truth_of(name).mask()
    for step in (1, 100):
        evaluator = CircuitEvaluator(view_of(name), one_corruption_each(name, 5, step), batch_size=1215)
        found, wanted = evaluator.logits(mask[None])[0], evaluator.clean_logits()
        assert torch.equal(found.argmax(-1), wanted.argmax(-1))
        assert float((found - wanted).abs().max()) < 1e-6 * float(wanted.abs().max())
        assert not torch.equal(evaluator.ablated_logits().argmax(-1), wanted.argmax(-1))


@pytest.mark.parametrize("name", NAMES)
def test_without_any_true_edge_some_longest_input_has_another_output(name: str) -> None:
    truth = truth_of(name).mask()
    evaluator = CircuitEvaluator(view_of(name), one_corruption_each(name, 5, 100), batch_size=1215)
    right = evaluator.clean_logits().argmax(-1)
    for start in (truth, view_of(name).graph.exists):
        masks = start.repeat(int(truth.sum()), 1, 1)
        for mask, edge in zip(masks, truth.nonzero().tolist(), strict=True):
            mask[tuple(edge)] = False
        changed = (evaluator.logits(masks).argmax(-1) != right).float().mean(1)
        # The rarest of them matters on more than a fifth of these pairs and positions.
        assert bool((changed > 0.2).all())


@pytest.mark.parametrize("name", NAMES)
def test_the_true_circuit_is_the_minimum(name: str) -> None:
    """No part of it gives the model's outputs, and edges outside it carry nothing: all others that do contain it."""
    graph, truth = view_of(name).graph, truth_of(name).mask()
    edges = truth.nonzero()
    parts = torch.zeros(2 ** len(edges), *truth.shape, dtype=torch.bool)
    kept = torch.tensor(list(itertools.product([False, True], repeat=len(edges))))
    parts[:, edges[:, 0], edges[:, 1]] = kept
    parts = clean(graph, parts).flatten(1).unique(dim=0).unflatten(1, truth.shape)
    proper = parts[parts.sum((1, 2)) < len(edges)]
    assert len(proper) == len(parts) - 1
    evaluator = CircuitEvaluator(view_of(name), one_corruption_each(name, 5, 100), batch_size=1215)
    outputs = torch.cat([evaluator.logits(some).argmax(-1) for some in proper.split(64)])
    assert bool((outputs != evaluator.clean_logits().argmax(-1)).any(1).all())


def test_other_edges_change_nothing_however_many_are_removed() -> None:
    view, truth = view_of("sort-freq"), truth_of("sort-freq").mask()
    evaluator = CircuitEvaluator(view, one_corruption_each("sort-freq", 4, 40), batch_size=400)
    others = view.graph.exists & ~truth
    random = torch.rand(40, *truth.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    found = evaluator.logits(truth | (others & random))
    torch.testing.assert_close(found, evaluator.clean_logits().expand_as(found), rtol=0, atol=1e-5)


def test_bound_sees_edges_that_other_weights_would_add() -> None:
    view, words = view_of("hist"), view_of("hist").embed.words  # type: ignore[attr-defined]

    def added(other: TransformerView) -> list[str]:
        more = script().bound(other, letters_of("hist")) & ~truth_of("hist").mask()
        return [view.graph.edge_name(u, v) for u, v in more.nonzero().tolist()]

    # The logits read the letters too.
    assert added(dataclasses.replace(view, unembed_weight=view.unembed_weight + words)) == ["input->logits"]
    # The values are the letters: a change in them is written to where the MLP reads.
    first, *others = view.layers
    wide = torch.zeros_like(first.attention.w_v)
    wide[0, 0, :] = words[letters_of("hist")[0]]
    first = dataclasses.replace(first, attention=dataclasses.replace(first.attention, w_v=wide))
    assert added(dataclasses.replace(view, layers=(first, *others))) == ["input->a0.h0<v>"]


def test_bound_leaves_out_keys_that_no_query_tells_apart() -> None:
    # The length in reverse counts all tokens: its head's keys differ from letter to letter, its scores do not.
    view = view_of("reverse")
    letters = view.embed(torch.tensor(letters_of("reverse"))[:, None])[:, 0]
    attention = view.layers[0].attention
    keys = letters @ attention.w_k[0].T
    assert float((keys[0] - keys[1]).abs().max()) == 1
    queries = letters @ attention.w_q[0].T
    torch.testing.assert_close(queries @ (keys[0] - keys[1]), torch.zeros(3))
    graph = view.graph
    assert not bool(truth_of("reverse").mask()[graph.parse_edge("input->a0.h0<k>")])


def test_check_refuses_a_missing_and_a_needless_edge() -> None:
    view, truth = view_of("hist"), truth_of("hist").mask()
    small, large = truth.clone(), truth.clone()
    small[view.graph.parse_edge("input->a0.h0<q>")] = False
    with pytest.raises(SystemExit, match=r"6 of 6 outputs differ with the true edges alone"):
        script().check(view, small, "abc", longest=2)
    large[view.graph.parse_edge("input->m0")] = True
    with pytest.raises(SystemExit, match="no output changes without any single one of input->m0"):
        script().check(view, large, "abc", longest=2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("settings", [{"strategy": "iterative"}, {"strategy": "acdc", "threshold": 0.01}])
def test_search_finds_exactly_the_true_edges(name: str, settings: dict[str, Any]) -> None:
    task = f"tracr_{name.replace('-', '_')}"
    found = discover(task, view_of(name), n=16, n_held_out=8, n_random=0, device="cpu", **settings)
    assert torch.equal(found.mask(), truth_of(name).mask())
    assert found.evaluation is not None and found.evaluation.held_out.accuracy_clean == 1
    assert found.evaluation.held_out.faithfulness == pytest.approx(1, abs=1e-4)


def auc(scores: Tensor, true: Tensor) -> float:
    """Share of pairs of a true and another edge in which the true one has the larger score; ties count half."""
    right, wrong = scores[true][:, None], scores[~true][None]
    return float(((right > wrong).double() + (right == wrong).double() / 2).mean())


@pytest.mark.parametrize(
    ("name", "steps", "wanted"),
    [
        ("reverse", 5, 1.0),
        ("frac-prevs", 5, 1.0),
        # Between its steps an MLP that counts is flat. Of 5 points none falls on a step: only m0->logits has a score,
        # and 3 of 4 true edges tie with the other 4. (1 + 3 / 2) / 4
        ("hist", 5, 0.625),
        ("hist", 200, 1.0),
        ("majority", 200, 1.0),
    ],
)
def test_integrated_gradients_rank_true_edges_first_if_their_points_are_dense(
    name: str, steps: int, wanted: float
) -> None:
    view = view_of(name)
    prompts, _ = build_splits(find_task(f"tracr_{name.replace('-', '_')}"), view.tokenizer, 16, 0, seed=0)
    scores = score_edges(view, prompts, get_metric("logit_diff"), get_method("eap-ig", steps=steps)).mean.abs()
    exists = view.graph.exists
    # What is not above rounding is no score.
    scores = scores * (scores > 1e-6 * scores.max())
    assert auc(scores[exists], truth_of(name).mask()[exists]) == wanted
