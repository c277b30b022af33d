"""The recorded evaluator: the same answers as the plain one, from the model or from the trace."""

from pathlib import Path
from typing import Any

import pytest
import torch

from acdc_engine.errors import RunFolderError
from acdc_engine.graph.connectivity import clean
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.judge import Judge
from acdc_engine.prompts.metrics import Metric, get_metric
from acdc_engine.run.fingerprint import Facts
from acdc_engine.run.recorded import RecordedEvaluator
from acdc_engine.run.trace import Trace, read_trace
from acdc_engine.search import Found, singles
from tests.tiny_models import random_prompts, view

FACTS: Facts = {"task": "tiny"}
METRIC = get_metric("logit_diff")


def some_masks(name: str, n: int = 3) -> torch.Tensor:
    graph = view(name).graph
    generator = torch.Generator().manual_seed(1)
    return clean(graph, graph.exists & (torch.rand(n, *graph.exists.shape, generator=generator) < 0.6))


def ask(evaluator: CircuitEvaluator, masks: torch.Tensor) -> list[torch.Tensor]:
    """All that is asked of an evaluator."""
    near = masks[0].clone()
    near[tuple(near.nonzero()[0].tolist())] = False
    judge = Judge(evaluator, METRIC)
    return [
        judge.values(masks),
        evaluator.values(masks[:1], get_metric("kl")),
        judge.values(near[None], near=masks[0]),
        judge.contributions(masks[1]),
        singles(evaluator.view.graph, Found(masks[0], 0.0), judge, None).without,
        torch.tensor([evaluator.exact_evaluations]),
    ]


def traced(path: Path, name: str, ablation: str = "patch", n: int = 5) -> tuple[Trace, RecordedEvaluator]:
    trace = Trace(path)
    trace.open(read_trace(path), FACTS, 0.0)
    return trace, RecordedEvaluator(trace, view(name), random_prompts(n), ablation, 4)


@pytest.mark.parametrize(("name", "ablation"), [("gpt2", "patch"), ("gemma3", "mean")])
def test_answers_and_counts_are_those_of_the_plain_evaluator_also_when_replayed(
    name: str, ablation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = some_masks(name)
    plain = ask(CircuitEvaluator(view(name), random_prompts(5), ablation, 4), masks)
    trace, evaluator = traced(tmp_path / "trace", name, ablation)
    first = ask(evaluator, masks)
    trace.close()

    trace, evaluator = traced(tmp_path / "trace", name, ablation)
    for method in ("values", "edge_gradients"):
        monkeypatch.setattr(CircuitEvaluator, method, lambda *a, **k: pytest.fail("the model was asked"))
    again = ask(evaluator, masks)
    trace.close()
    for one, two, three in zip(plain, first, again, strict=True):
        assert torch.equal(one, two) and torch.equal(one, three) and one.dtype == three.dtype


def test_a_record_that_is_used_up_is_followed_by_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one that the model runs again is near a circuit that the killed process had run and kept."""
    masks = some_masks("gpt2", 4)
    trace, evaluator = traced(tmp_path / "trace", "gpt2")
    expected = [evaluator.values(mask[None], METRIC, masks[0]) for mask in masks]
    trace.close()
    lines = (tmp_path / "trace").read_text().splitlines(keepends=True)
    (tmp_path / "trace").write_text("".join(lines[:3]) + lines[3][:40])
    ran: list[int] = []
    original = CircuitEvaluator.values

    def counted(
        self: CircuitEvaluator, masks: torch.Tensor, metric: Metric, near: torch.Tensor | None = None
    ) -> torch.Tensor:
        ran.append(len(masks))
        return original(self, masks, metric, near)

    monkeypatch.setattr(CircuitEvaluator, "values", counted)
    trace, evaluator = traced(tmp_path / "trace", "gpt2")
    found = [evaluator.values(mask[None], METRIC, masks[0]) for mask in masks]
    trace.close()
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert ran == [1, 1] and evaluator.exact_evaluations == 4


@pytest.mark.parametrize("changed", ["mask", "near", "metric", "prompts", "method"])
def test_the_record_of_another_question_is_refused(changed: str, tmp_path: Path) -> None:
    masks = some_masks("gpt2")
    trace, evaluator = traced(tmp_path / "trace", "gpt2")
    evaluator.values(masks[:1], METRIC)
    trace.close()
    trace, evaluator = traced(tmp_path / "trace", "gpt2", n=6 if changed == "prompts" else 5)
    arguments: dict[str, Any] = {
        "masks": masks[1:2] if changed == "mask" else masks[:1],
        "metric": get_metric("kl") if changed == "metric" else METRIC,
        "near": masks[1] if changed == "near" else None,
    }
    with pytest.raises(RunFolderError, match="line 2 answers another question than the one this run asks"):
        if changed == "method":
            evaluator.edge_gradients(masks[0], METRIC)
        else:
            evaluator.values(**arguments)
    trace.close()
