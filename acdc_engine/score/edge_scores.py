"""Scores of all edges by attribution patching, in batches, without splitting any input."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from acdc_engine.display import Shown
from acdc_engine.errors import ScoreError
from acdc_engine.graph.blocks import Graph
from acdc_engine.model.devices import fitting_prompts
from acdc_engine.model.layers import read_positions
from acdc_engine.model.refusals import check_finite, check_gradients
from acdc_engine.model.twins import BlockRecord, Record, Twin
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.metrics import Metric, columns_read
from acdc_engine.prompts.prompt_set import PromptSet

_BLOCK_BYTES = {"cpu": 24 * 2**20, "cuda": 1024 * 2**20}
"""Room for the expanded senders of one block of tokens, by kind of device. On a CPU a block that stays in the cache is
half again as fast as one that does not; a GPU wants large products."""
_POINTS = 5
"""Integration points whose gradients are kept before they are contracted: what scoring holds does not grow with more of
them, and the product costs little beside this many runs. At least two: both ends come before the first product."""
_COLUMNS = 64
"""Receivers of one product: layers with fewer share one, or the senders would be read from memory for each of them."""
_PER_EXAMPLE_BYTES = 2**30
"""Room for the scores of single prompts, which stability is computed from; without it there is none."""


@dataclass(frozen=True, repr=False)
class EdgeScores(Shown):
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
        settings: Of the method, for the circuit's file.
    """

    mean: Float[Tensor, "senders receivers"]
    rms: Float[Tensor, "senders receivers"] | None = None
    per_example: Float[Tensor, "examples senders receivers"] | None = None
    senders: tuple[str, ...] = ()
    receivers: tuple[str, ...] = ()
    method: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def both(self) -> Float[Tensor, "2 senders receivers"]:
        """Mean and root mean square; the latter is |mean| where examples were not taken apart."""
        return torch.stack([self.mean, self.mean.abs() if self.rms is None else self.rms])


def attribution_patching(
    view: TransformerView,
    prompts: PromptSet,
    metric: Metric,
    alphas: Sequence[float],
    name: str,
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
    product per layer for every few of them. Memory: the activations one backward pass needs, what those few points
    leave behind, and one block of tokens written out: the same for any number of alphas.

    Whether the caller has gradients switched off (`torch.no_grad()`) and what torch's default number format is do not
    matter; sums are float32 in every number format of the model.

    Args:
        view: The model.
        prompts: Aligned clean and corrupt prompts.
        metric: Oriented so that higher means more of the behaviour.
        alphas: The points at which gradients are taken, from 0 (corrupt) to 1 (clean).
        name: Of the method.
        batch_size: Examples per run, at most: of long prompts fewer, see `acdc_engine.model.devices`.
        rms: Take examples apart for their root mean square.
        per_example: Keep every example's scores (the bootstrap needs them).
        progress: Called with the number of examples done after each batch.

    Raises:
        ScoreError: A run or a score is not finite; the layer is named. Or `torch.inference_mode()` is on.
    """
    check_gradients(view)
    graph = view.graph
    apart = rms or per_example
    total = torch.zeros(graph.n_senders, graph.n_receivers, dtype=torch.float32, device=view.device)
    squares = torch.zeros_like(total)
    rows: list[Tensor] = []
    parts = prompts.batch_rows(batch_size, partial(fitting_prompts, view))
    for part in parts:
        batch = prompts.select(part).to(view.device)
        sums = _sums(view, batch, metric, alphas, apart)
        total += sums.sum(0)
        if apart:
            squares += sums.square().sum(0)
        if per_example:
            rows.append(sums.cpu())
        if progress is not None:
            progress(len(batch))
    points, spread, each = len(alphas), None, None
    mean = (total.cpu() / (len(prompts) * points)).masked_fill(~graph.exists, 0.0)
    _check_scores(view, mean)
    if apart:
        spread = (squares.cpu() / len(prompts)).sqrt().div_(points).masked_fill_(~graph.exists, 0.0)
    if per_example:
        each, order = torch.cat(rows), [row for part in parts for row in part]
        if order != sorted(order):
            each = each[torch.tensor(order).argsort()]
        each.div_(points).masked_fill_(~graph.exists, 0.0)
    return EdgeScores(mean, spread, each, graph.senders, graph.receivers, name, {"alphas": list(alphas)})


def _check_scores(view: TransformerView, scores: Float[Tensor, "senders receivers"]) -> None:
    """The runs were finite; gradients may still overflow, and then every receiver before the fault is lost."""
    columns = (~torch.isfinite(scores)).any(0).nonzero().flatten().tolist()
    if columns:
        raise ScoreError(
            f"{int((~torch.isfinite(scores)).sum())} scores are NaN or infinite, the latest of them into "
            f"{view.graph.receivers[columns[-1]]}: a gradient overflows there or in what follows ({view.dtype}). Try "
            "--dtype float32, or check the weights of that layer and of the unembedding."
        )


@torch.enable_grad()
def _sums(
    view: TransformerView, batch: PromptSet, metric: Metric, alphas: Sequence[float], apart: bool
) -> Float[Tensor, "rows senders receivers"]:
    """All model runs of one batch, clean, corrupt and the points between, and what they come to.

    Returns:
        Sums over tokens and points: a row for each example if they are taken `apart`, one for all otherwise.
    """
    start, past = view.first_change(batch.clean, batch.corrupt, batch.read_at), None
    embeds = {0.0: view.embed(batch.corrupt), 1.0: view.embed(batch.clean)}
    if start:  # before it all runs are the same, and differences nothing: it is run once, without gradients
        past = Record(embeds[1.0][:, :start])
        with torch.no_grad():
            view.run(past.embed, past, keep_inputs=True)
    embeds = {alpha: embed[:, start:] for alpha, embed in embeds.items()}
    read_at, read = batch.read_at - start, columns_read(metric, batch)
    ends: dict[float, Record] = {}
    clean_logits = None
    for alpha in (0.0, 1.0):
        if alpha not in alphas:
            ends[alpha] = Record(embeds[alpha], past=past)
            with torch.no_grad():
                final = view.run(embeds[alpha], ends[alpha])
                if alpha == 1.0 and metric.needs_clean_logits:
                    clean_logits = view.unembed(read_positions(final, read_at))
    senders = _differences(view, ends) if len(ends) == 2 else None
    n, pos = embeds[1.0].shape[:2]
    receivers = ReceiverGradients(view, n, pos, min(_POINTS, len(alphas)))
    rows = n if apart else 1
    out = torch.zeros(rows, *view.graph.exists.shape, dtype=torch.float32, device=view.device)
    # The ends first: the senders are their difference, and metrics that compare with the clean run need its logits.
    ordered = sorted(alphas, key=lambda alpha: (alpha not in embeds, -alpha))
    for done, alpha in enumerate(ordered, 1):
        embed = embeds[alpha] if alpha in embeds else torch.lerp(embeds[0.0], embeds[1.0], alpha)
        record = Record(embed.detach().requires_grad_(), past=past)
        record, logits = _add_point(view, record, read_at, metric, read, clean_logits, receivers)
        if alpha == 1.0:
            clean_logits = logits
        if alpha in embeds:
            ends[alpha] = record
        del record
        if receivers.points == _POINTS or done == len(ordered):
            senders = senders or _differences(view, ends)
            _contract(view, senders, receivers, out)
            receivers.clear()
    return out


def _differences(view: TransformerView, ends: dict[float, Record]) -> Record:
    """Clean minus corrupt senders, laid out to be written out; empties `ends`, whose runs are not needed any more."""
    clean, corrupt = ends.pop(1.0), ends.pop(0.0)
    for run, name in ((clean, "clean"), (corrupt, "corrupt")):
        check_finite(view, run.embed, run.values(), name)
    pairs = zip(clean.blocks, corrupt.blocks, strict=True)
    blocks = [BlockRecord((a.values - b.values).detach().contiguous()) for a, b in pairs]
    return Record((clean.embed - corrupt.embed).detach(), blocks)


class ReceiverGradients:
    """Gradients of the summed metric at every receiver's input for one batch, summed over a few integration points.

    All memory is taken at once, before the first run: tensors that outlive a run, allocated between those that do not,
    would leave the heap in pieces (a third more resident memory on SmolLM2).
    """

    def __init__(self, view: TransformerView, batch: int, pos: int, points: int) -> None:
        like = view.unembed_weight
        self.blocks = [twin.sums(points, batch, pos, like) for twin in view.twins]
        wide = torch.promote_types(like.dtype, torch.float32)
        self.logits = like.new_zeros(batch, pos, view.d_model, dtype=wide)
        self.points = 0

    def clear(self) -> None:
        """Begins a new sum."""
        for block in self.blocks:
            block.clear()
        self.logits.zero_()
        self.points = 0

    def add(self, view: TransformerView, record: Record, metric: Float[Tensor, ""]) -> None:
        """Differentiates a run that was recorded with its inputs, and adds its gradients."""
        assert record.final is not None, "the run is over"
        wanted = [*(one for block in record.blocks for one in block.inputs), record.final]
        batch, pos, _ = record.embed.shape
        for twin in view.twins:
            twin.count(view.work, batch, pos, record.start)
        gradients = list(torch.autograd.grad(metric, wanted, materialize_grads=True))
        self.logits += gradients.pop()
        for block, into in zip(record.blocks, self.blocks, strict=True):
            assert block.x is not None, "inputs were kept"
            own, gradients = gradients[: len(block.inputs)], gradients[len(block.inputs) :]
            into.add(block.x.detach(), [one.detach() for one in block.inputs], own)
        self.points += 1


def _add_point(
    view: TransformerView,
    record: Record,
    read_at: Int[Tensor, "batch"],
    metric: Metric,
    read: tuple[PromptSet, Tensor | None],
    clean_logits: Tensor | None,
    receivers: ReceiverGradients,
) -> tuple[Record, Tensor]:
    """One differentiated run. A function of its own so that its activations are gone before the next one starts.

    Returns:
        The run's senders, detached, and its logits.
    """
    final = read_positions(view.run(record.embed, record, keep_inputs=True), read_at)
    prompts, columns = read
    logits = view.unembed(final, columns)
    reference = logits.detach() if clean_logits is None else clean_logits
    receivers.add(view, record, metric(logits, prompts, reference).sum())
    return Record(record.embed, [BlockRecord(block.values.detach()) for block in record.blocks]), logits.detach()


@torch.no_grad()
def _contract(
    view: TransformerView,
    senders: Record,
    receivers: ReceiverGradients,
    out: Float[Tensor, "rows senders receivers"],
) -> None:
    """Adds `difference . gradient`, summed over tokens, one block of tokens at a time.

    Args:
        view: The model.
        senders: Differences.
        receivers: Gradients, summed over points.
        out: A row for each example, or one for all.
    """
    n, pos, d_model = senders.embed.shape
    block_bytes = _BLOCK_BYTES.get(view.device.type, _BLOCK_BYTES["cuda"])
    room = max(1, block_bytes // (view.graph.n_senders * d_model * senders.embed.element_size()))
    step = max(1, room // pos)
    for begin in range(0, n, step):
        examples = slice(begin, min(begin + step, n))
        rows = out[examples] if len(out) == n else out
        for first in range(0, pos, room):
            _contract_tokens(view, senders, receivers, examples, slice(first, min(first + room, pos)), rows)


def _contract_tokens(
    view: TransformerView,
    senders: Record,
    receivers: ReceiverGradients,
    examples: slice,
    positions: slice,
    out: Float[Tensor, "rows senders receivers"],
) -> None:
    """Adds the products of some tokens to the scores.

    All receivers of some layers share one product with every sender that any of them reads. What it fills in for pairs
    without an edge (a layer's own heads into its q, k and v) is taken out in the end.
    """
    shape = senders.embed[examples, positions].shape
    tokens = shape[:2].numel()
    differences = _written(view, senders, examples, positions).unflatten(1, shape[:2])
    for group in _sharing(view.twins):
        first, last = group[0].block, group[-1].block
        start, stop, before = first.reads.start, last.reads.stop, max(twin.block.before for twin in group)
        gradients = differences.new_empty(stop - start, *shape)
        for twin in group:
            into = gradients[twin.block.reads.start - start : twin.block.reads.stop - start].flatten(1, 2)
            receivers.blocks[view.twins.index(twin)].expand(examples, positions, into, view.work)
        view.work.product(tokens, before, len(gradients), view.d_model)
        _add_product(differences[:before], gradients, out[:, :before, start:stop])
    final, logits = receivers.logits[examples, positions].to(differences.dtype)[None], view.graph.logits
    _add_product(differences, final, out[:, :, logits : logits + 1])


def _written(
    view: TransformerView, senders: Record, examples: slice, positions: slice
) -> Float[Tensor, "senders tokens d_model"]:
    """What all senders write to the residual stream, in graph order, for a block of tokens."""
    first = senders.embed[examples, positions].flatten(0, 1)
    out = first.new_empty(view.graph.n_senders, *first.shape)
    out[view.graph.INPUT] = first
    for twin, block in zip(view.twins, senders.blocks, strict=True):
        twin.write_out(block.values[:, examples, positions].flatten(1, 2), out[twin.block.writes], view.work)
    return out


def _sharing(twins: Sequence[Twin]) -> Iterator[list[Twin]]:
    """Blocks whose receivers share a product: those of a layer, and of as many layers as have few."""
    group: list[Twin] = []
    for _, layer in groupby(twins, key=lambda twin: twin.block.layer):
        more = list(layer)
        if group and sum(len(twin.block.feeds) for twin in (*group, *more)) > _COLUMNS:
            yield group
            group = []
        group += more
    yield group


def _add_product(
    senders: Float[Tensor, "senders examples pos d_model"],
    receivers: Float[Tensor, "receivers examples pos d_model"],
    out: Float[Tensor, "rows senders receivers"],
) -> None:
    """Adds dot products over tokens and width: of every example by itself where `out` has a row for each."""
    if len(out) == 1:
        out[0] += (senders.flatten(1) @ receivers.flatten(1).T).float()
        return
    for row, example in enumerate(out):
        example += (senders[:, row].flatten(1) @ receivers[:, row].flatten(1).T).float()


def per_example_fits(graph: Graph, n_prompts: int) -> bool:
    """Whether the scores of so many single prompts are kept (float32; ranking needs about as much again, twice)."""
    return n_prompts * graph.exists.numel() * 4 <= _PER_EXAMPLE_BYTES
