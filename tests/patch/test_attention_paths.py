"""Attention as a path: what a head brings from one place to another, token by token, on paper and in sums."""

import pytest
import torch
from torch import Tensor

from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.connectivity import clean
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.attention_paths import HeadPath
from acdc_engine.prompts.prompt_set import PromptSet
from tests.micro_models import copying_head
from tests.patch.slow_twin import SlowRun, slow_ground, slow_run
from tests.patch.test_spans import at_few, placed
from tests.score.test_brute_force import double_view
from tests.tiny_models import METRIC, random_mask, random_prompts, relative, view


def heads_of(graph: Graph) -> list[int]:
    return [head for block in graph.blocks if block.kind == "attention" for head in range(*block.writes.indices(99))]


def tokens_of(prompts: PromptSet, path: HeadPath) -> Tensor:
    """Which pairs of tokens a path is made of `[batch, queries, pos]`."""
    assert prompts.span_at is not None
    return (prompts.span_at == path.target)[:, :, None] & (prompts.span_at == path.source)[:, None, :]


def all_paths(graph: Graph, heads: list[int]) -> list[HeadPath]:
    assert graph.spans is not None
    n, leads = graph.n_spans, graph.spans.leads
    return [HeadPath(head, to, come) for head in heads for to in range(n) for come in range(n) if leads[come][to]]


def metric_of(run: SlowRun, prompts: PromptSet) -> Tensor:
    return METRIC(run.logits[torch.arange(len(prompts)), prompts.read_at], prompts, None)


@pytest.mark.parametrize(
    ("name", "ablation"),
    [
        ("gpt2", "patch"),
        ("llama_grouped", "mean"),
        ("qwen3", "zero"),
        ("gemma3", "patch"),
        ("olmo2", "mean"),
        ("phi", "patch"),
        ("granite", "zero"),
    ],
)
def test_token_by_token(name: str, ablation: str) -> None:
    """The gain with the gradient that autograd has of a run spelled out; what is lost of some, the strongest first."""
    v, prompts = double_view(name), placed(random_prompts(4, 7))
    graph = v.graph.at(prompts.spans)
    mask = at_few(graph, ("A", "B", "end"), 3) if ablation == "mean" else clean(graph, random_mask(graph, 0.6, 5))
    heads, evaluator = heads_of(graph)[::-1], CircuitEvaluator(v, prompts, ablation, batch_size=3)
    gains = evaluator.path_gradients(mask, heads, METRIC)
    kept, removed, nothing = slow_ground(v, prompts, mask, ablation)
    embed = v.embed(prompts.clean).detach()
    run = slow_run(v, embed.requires_grad_(), kept, removed, nothing)
    whole = metric_of(run, prompts)
    outputs = [run.z[head] for head in heads]
    for head, gradient, found in zip(heads, torch.autograd.grad(whole.sum(), outputs), gains, strict=True):
        of_tokens = run.looks[head] * (gradient @ (run.v[head] - nothing.v[head]).transpose(1, 2))
        for path in all_paths(graph, [head]):
            wanted = float((of_tokens * tokens_of(prompts, path)).detach().sum()) / 4
            assert abs(float(found[path.target, path.source]) - wanted) < 1e-5 * float(gains.abs().max())

    by_gain = sorted(all_paths(graph, heads), key=lambda path: -abs(float(gains[heads.index(path[0]), *path[1:]])))
    paths = [*by_gain[:4], *by_gain[4::30]]
    with torch.no_grad():
        for place, (path, values) in enumerate(zip(paths, evaluator.path_values(mask, paths, METRIC), strict=True)):
            other = slow_run(v, embed, kept, removed, nothing, {path.head: tokens_of(prompts, path)})
            assert relative(values, metric_of(other, prompts)) < 1e-6
            assert place >= 4 or relative(values, whole) > 1e-3, "the strongest do something"


@pytest.mark.parametrize("name", ["llama_grouped", "gemma3"])
def test_padding_and_batches_do_not_matter(name: str) -> None:
    v, prompts = view(name), placed(random_prompts(6, 7, ragged=True))
    graph = v.graph.at(prompts.spans)
    mask, heads, paths = (
        clean(graph, random_mask(graph, 0.6, 5)),
        heads_of(graph),
        all_paths(graph, heads_of(graph))[::9],
    )
    together, singly = CircuitEvaluator(v, prompts), [CircuitEvaluator(v, prompts.select([i])) for i in range(6)]
    gradients = [one.path_gradients(mask, heads, METRIC) for one in singly]
    assert relative(together.path_gradients(mask, heads, METRIC), torch.stack(gradients).mean(0)) < 1e-5
    values = torch.cat([one.path_values(mask, paths, METRIC) for one in singly], 1)
    assert relative(together.path_values(mask, paths, METRIC), values) < 1e-5


def test_on_paper() -> None:
    """The head looks at token 0 with 3/4 and at token 1 with 1/4. With token 2's value in place of token 0's it writes

    (3, 1) - 3/4 ((4, 0) - (0, 8)) = (0, 7): the metric falls from -2 to -11. All that follows is linear.
    """
    v, plain = copying_head()
    prompts = plain.placed([["A", "end"]])
    graph, evaluator = v.graph.at(prompts.spans), CircuitEvaluator(v, prompts)
    head = heads_of(graph)[0]
    (gradients,) = evaluator.path_gradients(graph.exists, [head], METRIC)
    assert torch.allclose(gradients, torch.tensor([[0.0, 0.0], [9.0, 0.0]]))
    values = evaluator.path_values(
        graph.exists, [HeadPath(head, 1, 0), HeadPath(head, 1, 1), HeadPath(head, 0, 0)], METRIC
    )
    assert torch.allclose(values[:, 0], torch.tensor([-11.0, -2.0, -2.0]))
