"""Roles, direct effects and examples in a circuit's file, on a tiny model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from acdc_engine.evidence.describe import (
    _MOST_NUMBERS,
    _choose,
    _examples_of,
    _heads_that_fit,
    _strongest_heads,
    describe,
)
from acdc_engine.evidence.roles import measure_roles, role_of
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.nodes import nodes_of_edges
from acdc_engine.graph.records import CircuitEdge, ModelRecord
from acdc_engine.model.twins import Record
from acdc_engine.model.view import TransformerView
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.judge import Judge
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from tests.micro_models import head_feeds_query
from tests.run.circuit_files import DISCOVERY, HELD_OUT, NAME, circuit, judge_of
from tests.tiny_models import random_prompts
from tests.tiny_task import tiny_view


def described(what: Circuit | None = None, **options: Any) -> Circuit:
    return describe(tiny_view(NAME), what or circuit(), judge_of(DISCOVERY), judge_of(HELD_OUT), **options)


def test_nodes_have_what_was_measured(tmp_path: Path) -> None:
    found, model = described(seed=5), tiny_view(NAME)
    senders = [node.name for node in found.nodes if node.kind != "logits"]
    wanted = measure_roles(model, senders, HELD_OUT, seed=5)
    for node in found.nodes:
        assert node.role_scores == wanted.scores.get(node.name, ())
        assert node.direct_effect == wanted.direct.get(node.name)
        assert node.role == role_of(node.role_scores)
        assert (node.direct_effect is None) == (node.kind == "logits")
    assert any(node.role_scores for node in found.nodes)
    found.save(tmp_path / "described.json")
    assert Circuit.load(tmp_path / "described.json") == found


def test_known_roles_are_kept_and_edges_agree(tmp_path: Path) -> None:
    head = next(node.name for node in circuit().nodes if node.kind == "head")
    nodes = tuple(n.model_copy(update={"role": "from a paper"}) if n.name == head else n for n in circuit().nodes)
    found = described(circuit().model_copy(update={"nodes": nodes}))
    by_name = {node.name: node for node in found.nodes}
    assert by_name[head].role == "from a paper" and by_name[head].role_scores
    assert all(edge.sender_role == by_name[edge.sender].role for edge in found.edges)
    found.save(tmp_path / "described.json")  # which refuses edges that say otherwise
    assert Circuit.load(tmp_path / "described.json") == found


def test_a_task_measured_by_kl_without_answers() -> None:
    bare = [PromptSet.from_tokens(p.clean.tolist(), p.corrupt.tolist()) for p in (DISCOVERY, HELD_OUT)]
    judges = [judge_of(prompts, "kl") for prompts in bare]
    found = describe(tiny_view(NAME), circuit(), *judges)
    assert all(node.direct_effect is None for node in found.nodes)
    assert [example.answers for example in found.examples] == [()] * 3 and found.examples[0].next_clean


# Examples


def test_an_example_says_what_the_model_does() -> None:
    """Texts, next tokens and patterns of the second pair against a run of that pair alone."""
    model = replace(tiny_view(NAME), tokenizer=None)
    evaluator = CircuitEvaluator(model, HELD_OUT)
    example = _examples_of(evaluator.view, circuit(), evaluator)[1]
    tokens, at = HELD_OUT.clean[1], int(HELD_OUT.read_at[1])
    assert example.clean == tuple(f"[{token}]" for token in tokens.tolist())
    assert example.corrupt == tuple(f"[{token}]" for token in HELD_OUT.corrupt[1].tolist())
    assert (example.read_at, example.answers) == (at, (f"[{int(HELD_OUT.answers[1, 0])}]",))
    assert example.wrong_answers == (f"[{int(HELD_OUT.wrong_answers[1, 0])}]",)
    for shown, logits in (
        (example.next_clean, model.logits(tokens[None])[0, at]),
        (example.next_corrupt, model.logits(HELD_OUT.corrupt[1][None])[0, at]),
        (example.next_circuit, evaluator.logits(circuit().mask()[None])[0, 1]),
    ):
        probabilities = logits.softmax(-1)
        order = probabilities.argsort(descending=True)[:5].tolist()
        assert [token.text for token in shown] == [f"[{token}]" for token in order]
        assert [token.probability for token in shown] == pytest.approx(probabilities[order].tolist(), abs=1e-6)
    record = Record(embed=model.embed(tokens[None]))
    with torch.no_grad():
        model.run(record.embed, record, keep_inputs=True)
    assert {pattern.head for pattern in example.patterns} == {n.name for n in circuit().nodes if n.kind == "head"}
    for pattern in example.patterns:
        layer, head = int(pattern.head[1]), int(pattern.head[4])
        rotation = model.rotations(len(tokens))[layer]
        q, k, _ = record.of(model.graph, "attention", layer).inputs
        weights = model.layers[layer].attention.weights(q, k, rotation, [head])[0, 0]
        for i, row in enumerate(pattern.clean):
            assert len(row) == i + 1 and row == pytest.approx(weights[i, : i + 1].tolist(), abs=5.1e-4)
            assert all(value == round(value, 3) for value in row)
        assert pattern.clean != pattern.corrupt


def test_tokens_are_texts_where_the_tokenizer_has_them() -> None:
    """The fake tokenizer has two words of the tiny model's 61 tokens."""
    model = tiny_view(NAME)
    prompts = PromptSet.from_tokens([[1, 0, 5]], [[1, 1, 5]], [[0]], [[7]])
    (example,) = _examples_of(model, circuit(), CircuitEvaluator(model, prompts))
    assert example.clean == ("<bos>", "<pad>", "[5]") and example.answers == ("<pad>",)


def test_prompts_of_unequal_length() -> None:
    """Padding is cut off, and changes nothing."""
    ragged = random_prompts(3, 9, seed=8, ragged=True)
    found = _examples_of(tiny_view(NAME), circuit(), CircuitEvaluator(tiny_view(NAME), ragged))
    assert [len(example.clean) for example in found] == ragged.lengths.tolist() == [9, 8, 7]
    assert [len(example.patterns[0].clean) for example in found] == [9, 8, 7]
    (alone,) = _examples_of(tiny_view(NAME), circuit(), CircuitEvaluator(tiny_view(NAME), ragged.select([2])))
    assert alone.patterns == found[2].patterns and alone.clean == found[2].clean


def test_attention_that_is_not_causal_has_whole_rows() -> None:
    causal, prompts = head_feeds_query()
    layers = tuple(replace(a, attention=replace(a.attention, causal=False)) for a in causal.layers)
    whole = replace(causal, layers=layers)
    (example,) = _examples_of(whole, small_circuit(causal), CircuitEvaluator(whole, prompts))
    assert [pattern.head for pattern in example.patterns] == ["a0.h0", "a1.h0"]
    assert example.patterns[1].clean == ((0.75, 0.25), (0.75, 0.25))
    assert example.patterns[1].corrupt == ((0.5, 0.5), (0.5, 0.5))


def small_circuit(model: TransformerView) -> Circuit:
    edges = (
        CircuitEdge(sender="input", receiver="a0.h0<v>"),
        CircuitEdge(sender="a0.h0", receiver="a1.h0<q>"),
        CircuitEdge(sender="a1.h0", receiver="logits"),
    )
    shape = model.shape
    record = ModelRecord(
        name="micro", n_layers=2, n_heads=1, n_kv_heads=1, d_model=4, d_vocab=3, parallel=shape.parallel, mlps=False
    )
    return Circuit(model=record, nodes=nodes_of_edges(model.graph, edges), edges=edges)


def test_one_token() -> None:
    model, _ = head_feeds_query()
    prompts = PromptSet.from_tokens([[0]], [[1]], [[0]], [[1]])
    judge = Judge(CircuitEvaluator(model, prompts), get_metric("logit_diff"))
    found = describe(model, small_circuit(model), judge, judge)
    assert found.examples[0].patterns[0].clean == ((1.0,),)
    assert [node.role for node in found.nodes] == [None, None, "name mover", None]


def test_long_prompts_get_no_patterns() -> None:
    model, _ = head_feeds_query()
    prompts = PromptSet.from_tokens([[0] * 65, [0] * 64], [[1] * 65, [1] * 64])
    long, short = _examples_of(model, small_circuit(model), CircuitEvaluator(model, prompts))
    assert long.patterns == () and len(long.clean) == 65
    assert len(short.patterns) == 2 and len(short.patterns[0].clean) == 64


def test_of_different_templates_first() -> None:
    for templates, wanted in (("xxyxzw", [0, 2, 4]), ("xxxy", [0, 1, 3]), ("x", [0])):
        rows = [[1]] * len(templates)
        assert _choose(PromptSet.from_tokens(rows, rows, templates=list(templates))) == wanted
    assert _choose(HELD_OUT) == [0, 1, 2]


def test_the_strongest_heads_come_first() -> None:
    """Both ends of an edge count; a group's keys count for each of its heads; without strengths the model's order."""
    layout = circuit().graph()
    assert layout.receivers[4].endswith("kv0<k>")
    edges = tuple(
        CircuitEdge(sender=sender, receiver=receiver, effect=effect)
        for sender, receiver, effect in (
            ("input", "a0.h0<q>", 0.1),
            ("input", "a0.h3<q>", -0.5),
            ("input", "a1.kv0<k>", 0.2),
            ("input", "a1.h0<q>", 0.0),
            ("input", "a1.h1<q>", 0.1),
            ("a0.h0", "logits", 0.3),
        )
    )
    made = circuit().model_copy(update={"edges": edges, "nodes": nodes_of_edges(layout, edges)})
    assert _strongest_heads(made) == ["a0.h3", "a0.h0", "a1.h1", "a1.h0"]
    bare = tuple(edge.model_copy(update={"effect": None}) for edge in edges)
    assert _strongest_heads(made.model_copy(update={"edges": bare})) == ["a0.h0", "a0.h3", "a1.h0", "a1.h1"]


@pytest.mark.parametrize(
    ("n_heads", "numbers", "wanted"),
    [
        (500, [100, 100, 100], [133, 133, 133]),  # 39,900 numbers
        (500, [4160, 4160, 4160], [9, 0, 0]),  # three for each would be too few to see anything
        (500, [1500, 1500, 1500], [13, 13, 0]),
        (3, [4160, 4160, 4160], [3, 3, 3]),
        (500, [0, 1000, 0], [0, 40, 0]),
        (7, [], []),
    ],
)
def test_how_many_heads_fit(n_heads: int, numbers: list[int], wanted: list[int]) -> None:
    assert _heads_that_fit(n_heads, numbers) == wanted
    assert sum(a * b for a, b in zip(numbers, wanted, strict=True)) <= _MOST_NUMBERS
