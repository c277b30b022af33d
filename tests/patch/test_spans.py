"""Edges at places in the prompt: the exact intervention, token by token, and what does not change with spans."""

import pytest
import torch
from torch import Tensor

from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.spans import Spans
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.evaluator import Variants
from acdc_engine.prompts.prompt_set import PromptSet
from tests.patch.slow_twin import slow_logits
from tests.score.test_brute_force import double_view, some_edges
from tests.tiny_models import CORE, METRIC, random_mask, random_prompts, relative, view

NAMES = ["bos", "A", "B", "and", "A", "and", "end"]
OTHERS = ["bos", "B", "A", "A", "and", "and", "end"]


def placed(prompts: PromptSet) -> PromptSet:
    """Two layouts in turn; each ends with `end`, wherever it ends."""
    rows = [[*(OTHERS if i % 2 else NAMES)[: n - 1], "end"] for i, n in enumerate(prompts.lengths.tolist())]
    return prompts.placed(rows)


def everywhere(plain: Tensor, n_spans: int) -> Tensor:
    """A plain mask as one with spans, all of them."""
    return torch.cat([plain[:, :-1].repeat_interleave(n_spans, 1), plain[:, -1:]], 1)


@pytest.mark.parametrize("name", CORE)
@pytest.mark.parametrize("ablation", ["patch", "mean", "zero"])
def test_the_slow_twin_token_by_token(name: str, ablation: str) -> None:
    v, prompts = view(name), placed(random_prompts(4, 7))
    graph = v.graph.at(prompts.spans)
    some = [random_mask(graph, share, seed) for share, seed in ((0.1, 11), (0.4, 12), (0.8, 13))]
    masks = clean(graph, torch.stack(some))
    assert masks.flatten(1).any(1).all()
    for mask, row in zip(masks, CircuitEvaluator(v, prompts, ablation).logits(masks), strict=True):
        assert relative(row, slow_logits(v, prompts, mask, ablation)) < 2e-5


@pytest.mark.parametrize("name", CORE)
def test_all_edges_none_and_those_of_a_plain_mask(name: str) -> None:
    plain = random_prompts(5, 7, ragged=True)
    v, prompts = view(name), placed(plain)
    graph = v.graph.at(prompts.spans)
    evaluator, without = CircuitEvaluator(v, prompts), CircuitEvaluator(v, plain)
    everything, nothing = evaluator.logits(torch.stack([graph.exists, torch.zeros_like(graph.exists)]))
    assert relative(everything, evaluator.clean_logits()) < 1e-5
    assert relative(nothing, evaluator.ablated_logits()) < 1e-5
    mask = clean(v.graph, random_mask(v.graph, 0.4, 3))
    (same,) = evaluator.logits(everywhere(mask, graph.n_spans)[None])
    assert relative(same, without.logits(mask[None])[0]) < 1e-5


@pytest.mark.parametrize("name", ["llama_grouped", "gemma3", "phi", "olmo2"])
def test_cleaning_changes_nothing(name: str) -> None:
    v, prompts = view(name), placed(random_prompts(4, 7))
    graph = v.graph.at(prompts.spans)
    mask = random_mask(graph, 0.3, 5)
    once = clean(graph, mask)
    assert 0 < int(once.sum()) < int(mask.sum())
    evaluator = CircuitEvaluator(v, prompts)
    raw, cleaned = evaluator.logits(torch.stack([mask, once]))
    assert relative(raw, cleaned) < 1e-5


@pytest.mark.parametrize("name", ["llama_grouped", "gemma3"])
def test_variants_of_a_base_equal_circuits_run_by_themselves(name: str) -> None:
    v, prompts = view(name), placed(random_prompts(5, 7, ragged=True))
    graph = v.graph.at(prompts.spans)
    base = clean(graph, random_mask(graph, 0.5, 7))
    masks = base.repeat(20, 1, 1)
    for mask, (sender, receiver) in zip(masks, some_edges(base, 20).tolist(), strict=True):
        mask[sender, receiver] = False
    evaluator = CircuitEvaluator(v, prompts)
    near = evaluator.logits(Variants.of(base, masks))
    for mask, row in zip(masks, near, strict=True):
        assert relative(row, CircuitEvaluator(v, prompts).logits(mask[None])[0]) < 1e-5


@pytest.mark.parametrize("name", ["llama_grouped", "gemma3", "phi"])
def test_padding_batches_and_the_order_of_spans_do_not_matter(name: str) -> None:
    v, prompts = view(name), placed(random_prompts(6, 7, ragged=True))
    graph = v.graph.at(prompts.spans)
    mask = clean(graph, random_mask(graph, 0.4, 5))
    together = CircuitEvaluator(v, prompts).logits(mask[None])[0]
    singly = [CircuitEvaluator(v, prompts.select([i])).logits(mask[None])[0] for i in range(6)]
    assert relative(together, torch.cat(singly)) < 1e-5

    named = {"bos": "z", "A": "y", "B": "x", "and": "w", "end": "end"}
    rows = [[named[name] for name in row] for row in prompts.span_names()]
    first = prompts.placed(rows).spans
    assert first is not None
    leads = tuple(row[::-1] for row in first.leads[::-1])
    other = Spans(first.names[::-1], leads, len(first) - 1 - first.end)
    renamed, there = prompts.placed(rows, other), v.graph.at(other)
    moved = torch.zeros_like(there.exists)
    for sender, receiver in mask.nonzero().tolist():
        name, _, span = graph.receivers[receiver].partition("@")
        moved[sender, there.receiver_index(f"{name}@{named[span]}")] = True
    assert relative(CircuitEvaluator(v, renamed).logits(moved[None])[0], together) < 1e-5


@pytest.mark.parametrize("name", ["gpt2", "llama_grouped", "gemma3", "olmo2", "phi"])
def test_gradients_equal_finite_differences(name: str) -> None:
    v, prompts = double_view(name), placed(random_prompts(3, 7, ragged=True))
    graph = v.graph.at(prompts.spans)
    mask = clean(graph, random_mask(graph, 0.7, 4))
    evaluator, step = CircuitEvaluator(v, prompts), 1e-3
    groups = torch.tensor([[True, False, True], [False, True, False]])
    first, second, _ = evaluator.edge_gradients(mask, METRIC, groups)
    found = evaluator.edge_gradients(mask, METRIC)[0]
    assert relative(found, (2 * first + second) / 3) < 1e-6
    for sender, receiver in some_edges(mask, 12).tolist():
        values = []
        for sign in (1, -1):
            weights = mask.to(torch.float64)
            weights[sender, receiver] += sign * step
            values.append(float(evaluator.differentiated(weights, METRIC)[0].mean()))
        wanted = (values[0] - values[1]) / (2 * step)
        assert abs(float(found[sender, receiver]) - wanted) < 2e-3 * float(found.abs().max())


def at_few(graph: Graph, names: tuple[str, ...], seed: int) -> Tensor:
    """A random circuit at some spans alone."""
    assert graph.spans is not None
    there = torch.tensor([graph.spans.names[span] in names for span in graph.span_of.tolist()])
    return clean(graph, random_mask(graph, 0.7, seed) & there)


@pytest.mark.parametrize("name", CORE)
@pytest.mark.parametrize("ablation", ["patch", "zero"])
def test_a_node_runs_where_somebody_reads_it(name: str, ablation: str) -> None:
    v, prompts = view(name), placed(random_prompts(4, 7))
    graph = v.graph.at(prompts.spans)
    masks = torch.stack([at_few(graph, some, 3) for some in (("B", "end"), ("A", "and", "end"), ("bos", "end"))])
    for mask in masks:
        evaluator = CircuitEvaluator(v, prompts, ablation)
        before = v.work.operations
        (found,) = evaluator.logits(mask[None])
        few, before = v.work.operations - before, v.work.operations
        assert relative(found, slow_logits(v, prompts, mask, ablation)) < 2e-5
        plain = torch.from_numpy(graph.plain(mask.numpy()))
        evaluator.logits(clean(graph, everywhere(plain, graph.n_spans))[None])
        assert few < v.work.operations - before, "less than the same edges everywhere"
    for mask, row in zip(masks, CircuitEvaluator(v, prompts, ablation).logits(masks), strict=True):
        assert relative(row, slow_logits(v, prompts, mask, ablation)) < 2e-5


@pytest.mark.parametrize("name", ["llama_grouped", "gemma3", "olmo2"])
@pytest.mark.parametrize("ablation", ["patch", "zero"])
def test_variants_at_spans_that_their_base_does_not_need(name: str, ablation: str) -> None:
    v, prompts = view(name), placed(random_prompts(4, 7))
    graph = v.graph.at(prompts.spans)
    base, more = at_few(graph, ("B", "end"), 3), at_few(graph, ("A", "B", "and", "end"), 3)
    masks = base.repeat(24, 1, 1)
    edges = (more ^ base).nonzero().tolist()[::3][:12] + base.nonzero().tolist()[::3][:12]
    for mask, edge in zip(masks, edges, strict=False):
        mask[tuple(edge)] ^= True
    masks[-1] = more
    near = CircuitEvaluator(v, prompts, ablation).logits(Variants.of(base, masks))
    for mask, row in zip(masks, near, strict=True):
        assert relative(row, CircuitEvaluator(v, prompts, ablation).logits(mask[None])[0]) < 1e-5
