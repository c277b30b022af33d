"""Scores of all edges by attribution patching, in batches, without splitting any input."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from acdc_engine.display import Shown
from acdc_engine.errors import ScoreError
from acdc_engine.graph.blocks import Graph
from acdc_engine.model.devices import halving
from acdc_engine.model.layers import read_positions
from acdc_engine.model.refusals import check_finite, check_gradients
from acdc_engine.model.twins import BlockRecord, Record
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.metrics import Metric, columns_read
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.score.contract import Places, ReceiverGradients, contract

_POINTS = 5
"""Integration points whose gradients are kept before they are contracted: what scoring holds does not grow with more of
them, and the product costs little beside this many runs. At least two: both ends come before the first product."""
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


def joined(some: EdgeScores, rows: Sequence[int], others: EdgeScores, other_rows: Sequence[int]) -> EdgeScores:
    """The scores of some rows of a prompt set and of others, as if they had been made together, in the set's order."""
    n, order = len(rows), torch.tensor([*rows, *other_rows]).argsort()

    def mean(one: Tensor, other: Tensor) -> Tensor:
        return (n * one + len(other_rows) * other) / len(order)

    rms = per_example = None
    if some.rms is not None and others.rms is not None:
        rms = mean(some.rms.square(), others.rms.square()).sqrt()
    if some.per_example is not None and others.per_example is not None:
        per_example = torch.cat([some.per_example, others.per_example])[order]
    return replace(some, mean=mean(some.mean, others.mean), rms=rms, per_example=per_example)


def attribution_patching(
    view: TransformerView,
    prompts: PromptSet,
    metric: Metric,
    alphas: Sequence[float],
    name: str,
    **options: Any,
) -> EdgeScores:
    """Scores every edge u -> v by attribution patching.

        score(u -> v) = mean over examples of  (clean_u - corrupt_u) . mean over alphas of d metric / d input_v

    (Nanda 2023; Syed et al. 2023, arXiv 2310.10348, eq. 2; with several alphas Hanna et al. 2024, arXiv 2403.17806,
    eq. 3). The dot product runs over positions and the residual dimension; the gradient is that at v's own input.

    Cost: 2 forward passes, one forward and backward per alpha (a clean or corrupt run counts once), and one matrix
    product per layer for every few of them. Memory: the activations one backward pass needs, what those few points
    leave behind, and one block of tokens written out: the same for any number of alphas.

    Alphas are the points at which gradients are taken, from 0 (corrupt) to 1 (clean); options are those of
    `in_batches`, which says what is raised.
    """

    def sums(batch: PromptSet, apart: bool) -> Tensor:
        return _sums(view, batch, metric, alphas, apart)

    return in_batches(view, prompts, sums, name, {"alphas": list(alphas)}, points=len(alphas), **options)


def in_batches(
    view: TransformerView,
    prompts: PromptSet,
    sums: Callable[[PromptSet, bool], Float[Tensor, "rows senders receivers"]],
    name: str,
    settings: Mapping[str, Any],
    *,
    points: int = 1,
    batch_size: int = 16,
    rms: bool = False,
    per_example: bool = False,
    progress: Callable[[int], None] | None = None,
) -> EdgeScores:
    """Scores of all prompts from those of batches.

    Whether the caller has gradients switched off (`torch.no_grad()`) and what torch's default number format is do not
    matter; sums are float32 in every number format of the model.

    Args:
        view: The model.
        prompts: Aligned clean and corrupt prompts.
        sums: From a batch and whether its examples are taken apart to their scores, a row for each, or to the sum over
            them, one row. Gradients are switched on.
        name: Of the method.
        settings: Of the method, for the circuit's file.
        points: How many points `sums` has added up: scores are means over them.
        batch_size: Examples per run, at most: of long prompts fewer, see `acdc_engine.model.devices`.
        rms: Take examples apart for their root mean square.
        per_example: Keep every example's scores (the bootstrap needs them).
        progress: Called with the number of examples done after each batch.

    Raises:
        ScoreError: A run or a score is not finite; the layer is named. Or `torch.inference_mode()` is on.
    """
    check_gradients(view)
    graph = view.graph.at(prompts.spans)
    apart = rms or per_example
    total = torch.zeros(graph.n_senders, graph.n_receivers, dtype=torch.float32, device=view.device)
    squares = torch.zeros_like(total)
    rows: list[Tensor] = []
    parts = list[list[int]]()

    def of_rows(part: list[int]) -> Tensor:
        with torch.enable_grad():
            return sums(prompts.select(part).to(view.device), apart)

    whole = prompts.batch_rows(batch_size, view.fitting)
    for part, found in chain.from_iterable(halving(part, of_rows) for part in whole):
        parts.append(part)
        total += found.sum(0)
        if apart:
            for row in found:  # one by one: squares of all would take as much again as all scores
                squares.addcmul_(row, row)
        if per_example:
            rows.append(found.cpu())
        if progress is not None:
            progress(len(part))
    spread, each = None, None
    mean = (total.cpu() / (len(prompts) * points)).masked_fill(~graph.exists, 0.0)
    _check_scores(view, mean)
    if apart:
        spread = (squares.cpu() / len(prompts)).sqrt().div_(points).masked_fill_(~graph.exists, 0.0)
    if per_example:
        each, order = torch.cat(rows), [row for part in parts for row in part]
        if order != sorted(order):
            each = each[torch.tensor(order).argsort()]
        each.div_(points).masked_fill_(~graph.exists, 0.0)
    return EdgeScores(mean, spread, each, graph.senders, graph.receivers, name, dict(settings))


def _check_scores(view: TransformerView, scores: Float[Tensor, "senders receivers"]) -> None:
    """The runs were finite; gradients may still overflow, and then every receiver before the fault is lost."""
    columns = (~torch.isfinite(scores)).any(0).nonzero().flatten().tolist()
    if columns:
        raise ScoreError(
            f"{int((~torch.isfinite(scores)).sum())} scores are NaN or infinite, the latest of them into "
            f"{view.graph.receivers[columns[-1]]}: a gradient overflows there or in what follows ({view.dtype}). Try "
            "--dtype float32, or check the weights of that layer and of the unembedding."
        )


class Runs:
    """The runs of one batch: clean, corrupt and the points between them.

    A point `alpha` is the run whose input embedding is `corrupt + alpha (clean - corrupt)`. What lies before the first
    token that differs is run once, and not part of any of them.

    Attributes:
        shape: Examples and positions of each run.
        places: The spans of their tokens, where the prompts have any.
    """

    def __init__(self, view: TransformerView, batch: PromptSet, metric: Metric) -> None:
        """Embeds both prompts of every example, and runs what is the same in both, without gradients."""
        self._past = view.shared_run(batch.clean, batch.corrupt, batch.read_at)
        clean, corrupt = view.embed(batch.clean), view.embed(batch.corrupt)
        start = 0 if self._past is None else self._past.embed.shape[1]
        self._view, self._metric, self._ends = view, metric, (corrupt[:, start:], clean[:, start:])
        self._read_at, self._read = batch.read_at - start, columns_read(metric, batch)
        self._clean_logits: Tensor | None = None
        n, pos, _ = self._ends[0].shape
        self.shape = (n, pos)
        self.places = None
        if batch.span_at is not None:
            self.places = Places(view.graph.at(batch.spans), batch.span_at[:, start:].tolist())

    def _embed(self, alpha: float) -> Tensor:
        return self._ends[int(alpha)] if alpha in (0.0, 1.0) else torch.lerp(*self._ends, alpha)

    @torch.no_grad()
    def plain(self, alpha: float) -> Record:
        """A run without gradients, of senders alone."""
        record = Record(self._embed(alpha), past=self._past)
        final = self._view.run(record.embed, record)
        if alpha == 1.0 and self._metric.needs_clean_logits:
            self._clean_logits = self._view.unembed(read_positions(final, self._read_at))
        return Record(record.embed, record.blocks)

    def differentiated(self, alpha: float, receivers: ReceiverGradients) -> Record:
        """A run whose gradients are added to the receivers'. Of metrics that compare, the clean run comes first.

        Returns:
            The run's senders, detached: its activations are gone before the next one starts.
        """
        record = Record(self._embed(alpha).detach().requires_grad_(), past=self._past)
        final = read_positions(self._view.run(record.embed, record, keep_inputs=True), self._read_at)
        prompts, columns = self._read
        logits = self._view.unembed(final, columns)
        reference = logits.detach() if self._clean_logits is None else self._clean_logits
        receivers.add(self._view, record, self._metric(logits, prompts, reference).sum())
        if alpha == 1.0:
            self._clean_logits = logits.detach()
        return Record(record.embed, [BlockRecord(block.values.detach()) for block in record.blocks])


def _sums(
    view: TransformerView, batch: PromptSet, metric: Metric, alphas: Sequence[float], apart: bool
) -> Float[Tensor, "rows senders receivers"]:
    """All model runs of one batch and what they come to.

    Returns:
        Sums over tokens and points: a row for each example if they are taken `apart`, one for all otherwise.
    """
    runs = Runs(view, batch, metric)
    ends = {alpha: runs.plain(alpha) for alpha in (0.0, 1.0) if alpha not in alphas}
    senders = _differences(view, ends) if len(ends) == 2 else None
    receivers = ReceiverGradients(view, *runs.shape, min(_POINTS, len(alphas)))
    out = no_scores(view, batch, apart)
    # The ends first: the senders are their difference, and metrics that compare with the clean run need its logits.
    ordered = sorted(alphas, key=lambda alpha: (alpha not in (0.0, 1.0), -alpha))
    for done, alpha in enumerate(ordered, 1):
        record = runs.differentiated(alpha, receivers)
        if alpha in (0.0, 1.0):
            ends[alpha] = record
        del record
        if receivers.points == _POINTS or done == len(ordered):
            senders = senders or _differences(view, ends)
            contract(view, senders, receivers, out, runs.places)
            receivers.clear()
    return out


def no_scores(view: TransformerView, batch: PromptSet, apart: bool) -> Float[Tensor, "rows senders receivers"]:
    """Zeros that the sums of a batch begin with: a row for each example if they are taken `apart`, one otherwise."""
    shape = len(batch) if apart else 1, *view.graph.at(batch.spans).joins.shape
    return torch.zeros(shape, dtype=torch.float32, device=view.device)


def _differences(view: TransformerView, ends: dict[float, Record]) -> Record:
    """Clean minus corrupt senders; empties `ends`, whose runs are not needed any more."""
    clean, corrupt = ends.pop(1.0), ends.pop(0.0)
    check_ends(view, clean, corrupt)
    return difference(clean, corrupt)


def check_ends(view: TransformerView, clean: Record, corrupt: Record) -> None:
    """Raises a ScoreError where a run is not finite; the layer is named."""
    for run, name in ((clean, "clean"), (corrupt, "corrupt")):
        check_finite(view, run.embed, run.values(), name)


def difference(run: Record, other: Record) -> Record:
    """Senders of one run minus those of another, laid out to be written out."""
    pairs = zip(run.blocks, other.blocks, strict=True)
    blocks = [BlockRecord((a.values - b.values).detach().contiguous()) for a, b in pairs]
    return Record((run.embed - other.embed).detach(), blocks)


def per_example_fits(graph: Graph, n_prompts: int) -> bool:
    """Whether the scores of so many single prompts are kept (float32; ranking needs about as much again, twice)."""
    return n_prompts * graph.exists.numel() * 4 <= _PER_EXAMPLE_BYTES
