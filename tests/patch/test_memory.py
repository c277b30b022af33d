"""The remembering evaluator: the answers of the one it wraps, each computed once, in whatever order they are asked."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from acdc_engine.graph.connectivity import Candidate, clean
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.evaluator import Circuits, Evaluator, Variants
from acdc_engine.patch.judge import Judge
from acdc_engine.patch.memory import Facts, RememberingEvaluator, Trace, _edges_hash, read_trace
from acdc_engine.prompts.metrics import Metric, as_metric, get_metric
from acdc_engine.search import Found, singles
from tests.tiny_models import METRIC, random_mask, random_prompts, view

FACTS: Facts = {"task": "tiny"}
KL = get_metric("kl")
NOTHING = np.empty(0, np.int64)


def some_masks(name: str, n: int = 3) -> Tensor:
    graph = view(name).graph
    return clean(graph, torch.stack([random_mask(graph, 0.6, seed) for seed in range(1, n + 1)]))


def lacking(mask: Tensor, *places: int) -> Candidate:
    """Without the edges that come at these places."""
    return Candidate(np.flatnonzero(mask.numpy())[list(places)])


def ask(evaluator: Evaluator, masks: Tensor) -> list[Tensor]:
    """All that is asked of an evaluator."""
    judge = Judge(evaluator, METRIC)
    return [
        judge.values(masks),
        evaluator.values(masks[:1], KL).cpu(),
        judge.values(Variants(masks[0], (lacking(masks[0], 0), lacking(masks[0], 1)))),
        judge.contributions(masks[1]),
        singles(judge, Found(masks[0], 0.0), None).without,
    ]


class Watched(CircuitEvaluator):
    """Says what it was asked: circuits of each batch, and 0 for a gradient."""

    asked: list[int]

    def values(self, circuits: Circuits, metric: Metric) -> Tensor:
        self.asked.append(len(circuits))
        return super().values(circuits, metric)

    def edge_gradients(self, mask: Tensor, metric: Metric) -> Tensor:
        self.asked.append(0)
        return super().edge_gradients(mask, metric)


def remembering(path: Path, name: str = "gpt2", ablation: str = "patch") -> tuple[RememberingEvaluator, Watched, Trace]:
    inner = Watched(view(name), random_prompts(5), ablation, 4)
    inner.asked = []
    trace = Trace(path)
    trace.open(read_trace(path), FACTS, 0.0)
    return RememberingEvaluator(inner, trace), inner, trace


@pytest.mark.parametrize(("name", "ablation"), [("gpt2", "patch"), ("gemma3", "mean")])
def test_answers_are_those_of_the_plain_evaluator_and_are_found_again(name: str, ablation: str, tmp_path: Path) -> None:
    masks = some_masks(name)
    plain = ask(CircuitEvaluator(view(name), random_prompts(5), ablation, 4), masks)
    evaluator, inner, trace = remembering(tmp_path / "trace", name, ablation)
    first, counted = ask(evaluator, masks), evaluator.exact_evaluations
    before = list(inner.asked)
    again = ask(evaluator, masks)
    assert inner.asked == before, "in the same process nothing is asked twice"
    trace.close()

    other, inner, trace = remembering(tmp_path / "trace", name, ablation)
    recalled = ask(other, masks)
    assert inner.asked == [] and other.exact_evaluations == counted
    for one, two, three, four in zip(plain, first, again, recalled, strict=True):
        assert torch.allclose(one, two, atol=1e-5) and one.dtype == two.dtype == four.dtype
        assert torch.equal(two, three) and torch.equal(two, four), "bit by bit"


def test_only_what_is_new_is_asked_and_written(tmp_path: Path) -> None:
    """A circuit is the same one however it is given: written out, or as what it lacks of another."""
    masks = some_masks("gpt2", 4)
    evaluator, inner, _ = remembering(tmp_path / "trace")
    evaluator.values(masks[:2], METRIC)
    evaluator.values(torch.stack([masks[2], masks[1], masks[2]]), METRIC)
    same = Candidate(np.flatnonzero((masks[0] & ~masks[1]).numpy()), np.flatnonzero((masks[1] & ~masks[0]).numpy()))
    evaluator.values(Variants(masks[0], (same, lacking(masks[0], 3), Candidate(NOTHING))), METRIC)
    assert inner.asked == [2, 1, 1] and evaluator.exact_evaluations == 4
    found = read_trace(tmp_path / "trace")
    assert found is not None and found.evaluations == 4 and [len(line.circuits) for line in found.answers] == [2, 1, 1]


def test_a_torn_line_is_asked_again_and_a_batch_at_most(tmp_path: Path) -> None:
    """The batch that the model runs again is near a circuit that the killed process had run and kept."""
    masks = some_masks("gpt2", 2)

    def batches(evaluator: RememberingEvaluator) -> list[Tensor]:
        pairs = [Variants(masks[0], (lacking(masks[0], n), lacking(masks[0], n + 1))) for n in (0, 1, 4, 6)]
        return [evaluator.values(pair, METRIC) for pair in pairs]

    evaluator, _, trace = remembering(tmp_path / "trace")
    expected = batches(evaluator)
    trace.close()
    lines = (tmp_path / "trace").read_text().splitlines(keepends=True)
    (tmp_path / "trace").write_text("".join(lines[:3]) + lines[3][:40])
    evaluator, inner, trace = remembering(tmp_path / "trace")
    assert all(torch.equal(a, b) for a, b in zip(expected, batches(evaluator), strict=True))
    assert inner.asked == [2, 2] and evaluator.exact_evaluations == 7


@pytest.mark.parametrize("changed", ["mask", "metric", "prompts", "ablation", "batches", "question"])
def test_another_question_is_another_answer(changed: str, tmp_path: Path) -> None:
    masks = some_masks("gpt2")
    evaluator, _, trace = remembering(tmp_path / "trace")
    evaluator.values(masks[:1], METRIC)
    inner = Watched(
        view("gpt2"),
        random_prompts(6 if changed == "prompts" else 5),
        "zero" if changed == "ablation" else "patch",
        3 if changed == "batches" else 4,
    )
    inner.asked = []
    trace.earlier = read_trace(tmp_path / "trace")
    other = RememberingEvaluator(inner, trace)
    if changed == "question":
        other.edge_gradients(masks[0], METRIC)
    else:
        other.values(masks[1:2] if changed == "mask" else masks[:1], KL if changed == "metric" else METRIC)
    assert len(inner.asked) == 1


def test_two_functions_of_one_name_are_two_metrics(tmp_path: Path) -> None:
    evaluator, inner, _ = remembering(tmp_path / "trace")
    mask = some_masks("gpt2", 1)
    one, two = as_metric(lambda logits, prompts: logits[:, 0]), as_metric(lambda logits, prompts: logits[:, 1])
    assert one.name == two.name and not torch.equal(evaluator.values(mask, one), evaluator.values(mask, two))
    evaluator.values(mask, one)
    assert inner.asked == [1, 1]


@given(st.sets(st.integers(0, 2**21)), st.sets(st.integers(0, 2**21)))
def test_hashes_of_sets_of_edges(some: set[int], more: set[int]) -> None:
    """Equal sets have equal hashes in whatever order, others do not, and a difference costs what it is large."""

    def hashed(edges: set[int]) -> list[int]:
        parts: list[int] = _edges_hash(np.array(sorted(edges, key=hash), np.int64)).tolist()
        return parts

    both = _edges_hash(np.array(sorted(some), np.int64)) + _edges_hash(np.array(sorted(more - some), np.int64))
    assert hashed(some | more) == both.tolist()
    assert (hashed(some) == hashed(more)) == (some == more)
