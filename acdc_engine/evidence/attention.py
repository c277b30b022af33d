"""What the heads of a circuit with places bring from one place to another: where they look, and what that is worth.

Formulas, and when they mislead: docs/method.md, "Attention as a path".
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from acdc_engine.errors import MetricError
from acdc_engine.evidence import Stages, silent
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.records import AttentionPath
from acdc_engine.model.view import TransformerView
from acdc_engine.patch.ablations import recorded
from acdc_engine.patch.attention_paths import HeadPath
from acdc_engine.patch.judge import Judge
from acdc_engine.patch.places import are_of
from acdc_engine.prompts.prompt_set import PromptSet

TESTED = 20
"""Paths that are tested exactly: the strongest by |score|, as far as these are not zero."""

_Weights = Mapping[int, Float[Tensor, "targets sources"]]
"""Where heads look, by sender."""


def attention_paths(
    view: TransformerView, circuit: Circuit, judge: Judge, *, batch_size: int = 16, progress: Stages = silent
) -> tuple[AttentionPath, ...]:
    """Measures every path of the circuit's heads, on the judge's prompts and in its metric.

    Returns:
        For every place of a head in the circuit those that it looks back at, in order; nothing for circuits without
        places, nor where the metric has no gradient (a function of one's own, such as a count).
    """
    graph, prompts, mask = judge.graph, judge.prompts, circuit.mask()
    paths = _paths_of(circuit, graph)
    if not paths:
        return ()
    heads = sorted({path.head for path in paths})
    with progress("Attention from place to place", 2 * len(prompts)) as stage:
        try:
            gains = judge.evaluator.path_gradients(mask, heads, judge.metric)
        except MetricError:  # it gives numbers without a gradient
            return ()
        clean, corrupt = (
            _weights(view, prompts, which, heads, graph.n_spans, batch_size, stage.advance)
            for which in ("clean", "corrupt")
        )
        scores = {path: float(gains[heads.index(path.head), path.target, path.source]) for path in paths}
        effects = _effects(judge, mask, sorted(paths, key=lambda path: -abs(scores[path])), scores)
    names = graph.spans.names if graph.spans is not None else ()
    return tuple(
        AttentionPath(
            head=graph.senders[path.head],
            target=names[path.target],
            source=names[path.source],
            weight=float(clean[path.head][path.target, path.source]),
            weight_corrupt=float(corrupt[path.head][path.target, path.source]),
            score=scores[path],
            effect=effects.get(path),
        )
        for path in paths
    )


def _paths_of(circuit: Circuit, graph: Graph) -> list[HeadPath]:
    """From every place that a head of the circuit is at to every place that it looks back at."""
    if graph.spans is None:
        return []
    names, leads, paths = graph.spans.names, graph.spans.leads, list[HeadPath]()
    for node in circuit.nodes:
        if node.kind == "head" and node.span is not None:
            head, target = graph.sender_index(node.sender), names.index(node.span)
            paths += [HeadPath(head, target, source) for source in range(len(names)) if leads[source][target]]
    return paths


def _effects(
    judge: Judge, mask: Tensor, strongest: Sequence[HeadPath], scores: Mapping[HeadPath, float]
) -> dict[HeadPath, float]:
    """What the metric loses without each of the strongest."""
    tested = [path for path in strongest[:TESTED] if scores[path] != 0.0]
    if not tested:
        return {}
    whole = judge.values(mask[None])[0].double().mean()
    without = judge.evaluator.path_values(mask, tested, judge.metric).cpu().double().mean(1)
    return dict(zip(tested, (whole - without).tolist(), strict=True))


@torch.no_grad()
def _weights(
    view: TransformerView,
    prompts: PromptSet,
    which: str,
    heads: Sequence[int],
    n_spans: int,
    batch_size: int,
    advance: Callable[[int], None],
) -> _Weights:
    """Attention from a token of each target to all tokens of each source, mean over tokens and prompts that have any.

    `which` is clean or corrupt: the runs, of the whole model, in which heads look.
    """
    sums = {head: torch.zeros(n_spans, n_spans, dtype=torch.float64) for head in heads}
    counts, by_layer = torch.zeros(n_spans, dtype=torch.float64), dict[int, list[int]]()
    layer_of = {head: block for block in view.graph.blocks for head in range(block.writes.start, block.writes.stop)}
    for head in heads:
        by_layer.setdefault(layer_of[head].layer, []).append(head - layer_of[head].writes.start)
    for batch in (part.to(view.device) for part in prompts.to("cpu").batches(batch_size, view.fitting)):
        assert batch.span_at is not None, "the circuit tells places apart"
        record = recorded(view, getattr(batch, which), keep_inputs=True)
        of_span = are_of(batch.span_at, n_spans)
        there = of_span.sum(1)  # tokens `[batch, spans]`
        counts += (there > 0).sum(0).cpu()
        share = of_span / there.clamp(min=1)[:, None]
        for layer, patterns in view.patterns(record, by_layer):
            found = torch.einsum("bqt,bhqs,bsu->htu", share, patterns.float(), of_span).cpu()
            for number, row in zip(by_layer[layer], found.double(), strict=True):
                sums[view.graph.heads(layer).start + number] += row
        advance(len(batch))
    return {head: (total / counts.clamp(min=1)[:, None]).clamp(max=1.0) for head, total in sums.items()}
