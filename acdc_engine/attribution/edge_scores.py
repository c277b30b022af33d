"""Scores of all edges by attribution patching, in batches, without splitting any input."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from acdc_engine.attribution.methods import Method
from acdc_engine.attribution.receivers import ReceiverGradients, expand
from acdc_engine.attribution.senders import SenderDifferences
from acdc_engine.display import html_of, line_of
from acdc_engine.errors import MetricError, PromptError, ScoreError
from acdc_engine.models.finite import check_finite
from acdc_engine.models.forward import Record, read_positions, run_layers
from acdc_engine.models.view import TransformerView
from acdc_engine.prompts.metrics import Metric
from acdc_engine.prompts.prompt_set import PromptSet

BLOCK_BYTES = {"cpu": 24 * 2**20, "cuda": 1024 * 2**20}
"""Room for the expanded senders of one block of tokens, by kind of device. On a CPU a block that stays in the cache is
half again as fast as one that does not; a GPU wants large products."""


@dataclass(frozen=True, repr=False)
class EdgeScores:
    """Scores of all edges.

    Attributes:
        mean: Mean over examples `[senders, receivers]`, float32, zero where no edge exists. Positive: the edge
            supports the behaviour (removing it is predicted to lower the metric by that much).
        rms: Root mean square over examples, or None where they were not taken apart. An edge that supports the
            behaviour in one example and works against it in another has a small mean and a large one of these.
        per_example: The scores of every example `[examples, senders, receivers]`, or None.
        senders: Names of the rows, where they are known.
        receivers: Names of the columns, where they are known.
        method: How the edges were scored, where that is known.
    """

    mean: Float[Tensor, "senders receivers"]
    rms: Float[Tensor, "senders receivers"] | None
    per_example: Float[Tensor, "examples senders receivers"] | None
    senders: tuple[str, ...] = ()
    receivers: tuple[str, ...] = ()
    method: str = ""

    @property
    def both(self) -> Float[Tensor, "2 senders receivers"]:
        """Mean and root mean square; the latter is |mean| where examples were not taken apart."""
        return torch.stack([self.mean, self.mean.abs() if self.rms is None else self.rms])

    def __repr__(self) -> str:
        """One line: there are thousands of names and numbers."""
        return line_of(self)

    def _repr_html_(self) -> str:
        """What a notebook shows: the strongest edges, and how the scores are spread."""
        return html_of(self)


def check_metric(metric: Metric, method: Method) -> None:
    """Refuses a metric that a method cannot learn anything from.

    Raises:
        MetricError: The metric's gradient vanishes at the only point the method looks at.
    """
    if metric.zero_gradient_at_clean and set(method.alphas) == {1.0}:
        raise MetricError(
            f"Metric {metric.name!r} has zero gradient at the clean run, the only point where {method.name!r} looks: "
            "all scores would be zero. Use --method eap-ig or clean-corrupted, or another metric."
        )


def score_edges(
    view: TransformerView,
    prompts: PromptSet,
    metric: Metric,
    method: Method,
    *,
    batch_size: int = 16,
    rms: bool = False,
    per_example: bool = False,
    progress: Callable[[int], None] | None = None,
) -> EdgeScores:
    """Scores every edge u -> v by attribution patching.

        score(u -> v) = mean over examples of  (clean_u - corrupt_u) . mean over alphas of d metric / d input_v

    (Nanda 2023; Syed et al. 2023, arXiv 2310.10348, eq. 2; with several alphas Hanna et al. 2024, arXiv 2403.17806,
    eq. 3). The dot product runs over positions and the residual dimension; the gradient is that at v's own input.

    Cost: 2 forward passes, one forward and backward per alpha (a clean or corrupt run counts once), and one matrix
    product per layer. Memory: the activations one backward pass needs, plus a block of `BLOCK_BYTES`.

    Args:
        view: The model.
        prompts: Aligned clean and corrupt prompts.
        metric: Oriented so that higher means more of the behaviour.
        method: Where gradients are taken, see `get_method`.
        batch_size: Examples per run.
        rms: Take examples apart for their root mean square.
        per_example: Keep every example's scores (the bootstrap needs them).
        progress: Called with the number of examples done after each batch.

    Raises:
        MetricError: The metric's gradient vanishes at the only point the method looks at.
        PromptError: There are no prompts, or prompts of unequal length for a model whose attention is not causal.
        ScoreError: A run or a score is not finite; the layer is named.
    """
    if not len(prompts):
        raise PromptError("There are no prompts to score edges on.")
    view.check_lengths(prompts.lengths)
    check_metric(metric, method)
    graph = view.graph
    apart = rms or per_example
    total = torch.zeros(graph.n_senders, graph.n_receivers, device=view.device)
    squares = torch.zeros_like(total)
    rows: list[Tensor] = []
    for batch in prompts.to(view.device).batches(batch_size):
        senders, receivers = _run_batch(view, batch, metric, method)
        for block in _contract(view, senders, receivers, apart):
            total += block
            if apart:
                squares += block.square()
            if per_example:
                rows.append(block.cpu())
        if progress is not None:
            progress(len(batch))
    points = len(method.alphas)
    mean = (total.cpu() / (len(prompts) * points)).masked_fill(~graph.exists, 0.0)
    _check_scores(view, mean)
    spread = (squares.cpu() / len(prompts)).sqrt().div_(points).masked_fill_(~graph.exists, 0.0) if apart else None
    each = torch.stack(rows).div_(points).masked_fill_(~graph.exists, 0.0) if per_example else None
    return EdgeScores(mean, spread, each, graph.senders, graph.receivers, method.name)


def _check_scores(view: TransformerView, scores: Float[Tensor, "senders receivers"]) -> None:
    """The runs were finite; gradients may still overflow, and then every receiver before the fault is lost."""
    columns = (~torch.isfinite(scores)).any(0).nonzero().flatten().tolist()
    if columns:
        raise ScoreError(
            f"{int((~torch.isfinite(scores)).sum())} scores are NaN or infinite, the latest of them into "
            f"{view.graph.receivers[columns[-1]]}: a gradient overflows there or in what follows ({view.dtype}). Try "
            "--dtype float32, or check the weights of that layer and of the unembedding."
        )


def _run_batch(
    view: TransformerView, batch: PromptSet, metric: Metric, method: Method
) -> tuple[SenderDifferences, ReceiverGradients]:
    """All model runs of one batch: clean, corrupt, and the points between."""
    embeds = {0.0: view.embed(batch.corrupt), 1.0: view.embed(batch.clean)}
    ends: dict[float, Record] = {}
    clean_logits = None
    for alpha in (0.0, 1.0):
        if alpha not in method.alphas:
            ends[alpha] = Record(embeds[alpha])
            with torch.no_grad():
                final = run_layers(view, embeds[alpha], ends[alpha])
                if alpha == 1.0 and metric.needs_clean_logits:
                    clean_logits = view.unembed(read_positions(final, batch.read_at))
    senders = _differences(view, ends) if len(ends) == 2 else None
    n, pos = batch.clean.shape
    receivers = ReceiverGradients(view, n, pos, points=len(method.alphas))
    # From clean to corrupt: metrics that compare with the clean run have its logits from the first point on.
    for alpha in sorted(method.alphas, reverse=True):
        embed = embeds[alpha] if alpha in embeds else torch.lerp(embeds[0.0], embeds[1.0], alpha)
        record, logits = _add_point(view, batch, metric, embed, clean_logits, receivers)
        if alpha == 1.0:
            clean_logits = logits
        if alpha in embeds:
            ends[alpha] = record
        del record
    return senders or _differences(view, ends), receivers


def _differences(view: TransformerView, ends: dict[float, Record]) -> SenderDifferences:
    """Clean minus corrupt senders; empties `ends`, whose runs are not needed any more."""
    clean, corrupt = ends.pop(1.0), ends.pop(0.0)
    for run, name in ((clean, "clean"), (corrupt, "corrupt")):
        check_finite(view, run.embed, [run.embed, *run.z, *run.mlp], name)
    return SenderDifferences.between(clean, corrupt)


def _add_point(
    view: TransformerView,
    batch: PromptSet,
    metric: Metric,
    embed: Tensor,
    clean_logits: Tensor | None,
    receivers: ReceiverGradients,
) -> tuple[Record, Tensor]:
    """One differentiated run. A function of its own so that its activations are gone before the next one starts.

    Returns:
        The run's senders, detached, and its logits.
    """
    record = Record(embed.detach().requires_grad_())
    logits = view.unembed(read_positions(run_layers(view, record.embed, record, keep_inputs=True), batch.read_at))
    reference = logits.detach() if clean_logits is None else clean_logits
    receivers.add(view, record, metric(logits, batch, reference).sum())
    return Record(embed, [z.detach() for z in record.z], [m.detach() for m in record.mlp]), logits.detach()


def _contract(
    view: TransformerView, senders: SenderDifferences, receivers: ReceiverGradients, per_example: bool
) -> Iterator[Float[Tensor, "senders receivers"]]:
    """Sums `difference . gradient` over tokens, one block of tokens at a time.

    Yields:
        Scores summed over the tokens of one block; of one example where `per_example` asks for that.
    """
    graph = view.graph
    n, pos, d_model = senders.embed.shape
    block_bytes = BLOCK_BYTES.get(view.device.type, BLOCK_BYTES["cuda"])
    room = max(1, block_bytes // (graph.n_senders * d_model * senders.embed.element_size()))
    step = 1 if per_example else max(1, room // pos)
    for start in range(0, n, step):
        examples = slice(start, min(start + step, n))
        scores = torch.zeros(graph.n_senders, graph.n_receivers, device=view.device)
        for first in range(0, pos, room):
            positions = slice(first, min(first + room, pos))
            _contract_block(view, senders, receivers, examples, positions, scores)
        yield scores


def _contract_block(
    view: TransformerView,
    senders: SenderDifferences,
    receivers: ReceiverGradients,
    examples: slice,
    positions: slice,
    scores: Tensor,
) -> None:
    """Adds one block's products to the scores.

    All receivers of a layer share one product with every sender that any of them reads. What it fills in for pairs
    without an edge (a layer's own heads into its q, k and v) is taken out in the end.
    """
    graph = view.graph
    differences = senders.expand(view, examples, positions).flatten(1)
    for index, layer in enumerate(view.layers):
        attention = graph.attention(index)
        before, rows = graph.senders_before_attention(index), attention.stop - attention.start
        if layer.mlp is not None:
            before, rows = graph.senders_before_mlp(index), rows + 1
        gradients = differences.new_empty(rows, *senders.embed[examples, positions].flatten(0, 1).shape)
        expand(layer, receivers.attention[index], examples, positions, gradients[: attention.stop - attention.start])
        if layer.mlp is not None:
            gradients[-1] = receivers.mlp[index][examples, positions].flatten(0, 1)
        columns = slice(attention.start, attention.start + rows)
        scores[:before, columns] += (differences[:before] @ gradients.flatten(1).T).float()
    last = receivers.logits[examples, positions].flatten()
    scores[:, graph.logits] += (differences @ last).float()
