"""The evaluator that runs the model: circuits on one set of prompts, exactly, in batches that fit."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from acdc_engine.errors import MethodError, PromptError
from acdc_engine.graph.connectivity import clean
from acdc_engine.model.devices import out_of_memory
from acdc_engine.model.layers import read_positions
from acdc_engine.model.refusals import check_finite, check_gradients
from acdc_engine.model.twins import Record
from acdc_engine.model.view import TransformerView
from acdc_engine.patch.ablations import ABLATIONS, Baseline, Reference, build_baseline
from acdc_engine.patch.evaluator import Circuits, Groups, Variants
from acdc_engine.patch.patched_run import PatchedRun
from acdc_engine.patch.plan import Plan, make_plan
from acdc_engine.patch.sums import Bank, Masks
from acdc_engine.prompts.metrics import Metric, columns_read
from acdc_engine.prompts.prompt_set import PromptSet

if TYPE_CHECKING:
    from acdc_engine.patch.attention_paths import HeadPath, Watches

T = TypeVar("T")
_MOST_MASKS = 64
"""Masks planned for one batch."""


@dataclass(frozen=True)
class _Ready:
    """A batch with everything that does not depend on the mask."""

    batch: PromptSet
    baseline: Baseline
    input: Bank
    clean_logits: Float[Tensor, "batch d_vocab"]
    columns: dict[Metric, tuple[PromptSet, Tensor | None]] = field(default_factory=dict)

    def measure(self, view: TransformerView, metric: Metric) -> Callable[[Tensor], Tensor]:
        """From what the logits read `[masks, batch, d_model]` to the metric of every prompt `[masks, batch]`.

        Only logits that the metric reads are computed. Which those are is looked up here, and once: that waits for the
        device.
        """
        if metric not in self.columns:
            self.columns[metric] = columns_read(metric, self.batch)
        prompts, columns = self.columns[metric]
        clean_logits = self.clean_logits if columns is None else None
        return lambda final: torch.stack([metric(row, prompts, clean_logits) for row in view.unembed(final, columns)])


class CircuitEvaluator:
    """Runs circuits on one set of prompts; what they share is computed once and kept. An `Evaluator`.

    Where heads of a layer are coupled (norms after attention) and under mean or zero ablation circuits are cleaned
    first: there a node cut off from the input is defined to keep its ablated value. Elsewhere cleaning would change
    nothing.

    Args:
        view: The model.
        prompts: The prompts to judge on.
        ablation: What removed senders write: "patch" (their value on the corrupt prompt), "mean" (their mean over the
            corrupt prompts, per position) or "zero".
        batch_size: Prompts per run, at most: of long prompts fewer, see `acdc_engine.model.devices`.
        before_run: Called before every run of a circuit; what it raises ends the work.
        part_of: The prompts that the ablation is made from, where these are a part of them.
        reference: What the ablation gives, where that is known already.

    Attributes:
        exact_evaluations: Circuits run so far.

    Raises:
        MethodError: For an unknown ablation.
        PromptError: No prompts, or prompts of unequal length for a model whose attention is not causal.
    """

    def __init__(
        self,
        view: TransformerView,
        prompts: PromptSet,
        ablation: str = "patch",
        batch_size: int = 16,
        before_run: Callable[[], None] = lambda: None,
        *,
        part_of: PromptSet | None = None,
        reference: Reference | None = None,
    ) -> None:
        self.ablation = ablation
        ABLATIONS.parameters_of(ablation)  # refuses what does not exist
        if view.base is not None and ablation != "base":
            raise MethodError(
                f"The view that against(tuned, base) gives is for ablation 'base' alone, not {ablation!r}: removed "
                "heads are written out by the base model's weights there. Take the view of one model."
            )
        if not len(prompts):
            raise PromptError("There are no prompts to run circuits on.")
        view.check_lengths(prompts.lengths, prompts.spans)
        self.view, self.graph, self.prompts = view, view.graph.at(prompts.spans), prompts.to(view.device)
        self.about = f"{(part_of or prompts).fingerprint()} {ablation} {batch_size}"
        self.exact_evaluations = 0
        self._before_run = before_run
        # Whether a node that is cut off from the input has to be taken for removed.
        self._cleans = view.coupled or ablation != "patch"
        self._rows = _alike_first(prompts, prompts.batch_rows(batch_size, view.fitting))
        order = [row for part in self._rows for row in part]
        self._order = None if order == sorted(order) else torch.tensor(order, device=view.device).argsort()
        with torch.no_grad():
            whole = self.prompts if part_of is None else part_of.to(view.device)
            removed = reference or ABLATIONS.bound(ablation)(view, whole, batch_size)
            batches = [prompts.select(rows).to(view.device) for rows in self._rows]
            self._ready = self._kept(self._prepare(batch, removed(batch)) for batch in batches)
        self._near: tuple[Bool[Tensor, "senders receivers"], Iterable[Bank]] | None = None

    def _kept(self, things: Iterable[T]) -> Iterable[T]:
        """One for each batch, on the device or, of an accelerator, in the host's memory; then one is there at a time.

        `map` goes through them below, because a loop would hold on to one while the next comes.
        """
        if self.view.room.kept is None:
            return [*things]
        from acdc_engine.patch.kept import Kept

        return Kept(things, self.view.room.kept, self.view.device)

    def _prepare(self, batch: PromptSet, removed: Record) -> _Ready:
        """The clean run goes on from the past of the removed senders' values, where that is the same (`Reference`)."""
        view, embed, start = self.view, self.view.embed(batch.clean), removed.start
        final = view.run(embed[:, start:], Record(embed, past=removed.past) if start else None)
        logits = view.unembed(read_positions(final, batch.read_at - start))
        check_finite(view, embed, [logits], "clean")
        baseline = build_baseline(view, batch, removed)
        if self.ablation == "patch":
            check_finite(view, view.embed(batch.corrupt), [baseline.final], "corrupt")
        # What `input` changes by is the same in every run.
        change, senders = embed[:, start:] - baseline.embed, np.array([self.graph.INPUT])
        bank = Bank.empty(senders, senders, 1, change)
        bank.store(senders, True, change[None, None], baseline.read_at)
        return _Ready(batch, baseline, bank, logits)

    def clean_logits(self) -> Float[Tensor, "prompts d_vocab"]:
        """See `Evaluator`; so the others."""
        return self._in_order([*map(attrgetter("clean_logits"), self._ready)], 0)

    def ablated_logits(self) -> Float[Tensor, "prompts d_vocab"]:
        """See `Evaluator`."""
        with torch.no_grad():
            return self._in_order([*map(lambda ready: self.view.unembed(ready.baseline.final), self._ready)], 0)

    def logits(self, circuits: Circuits) -> Float[Tensor, "circuits prompts d_vocab"]:
        """See `Evaluator`."""
        return self._each(circuits, lambda _, final: self.view.unembed(final), self.view.d_vocab)

    def values(self, circuits: Circuits, metric: Metric) -> Float[Tensor, "circuits prompts"]:
        """See `Evaluator`."""
        n_logits = 0 if metric.answers_only else self.view.d_vocab
        return self._each(circuits, lambda ready, final: ready.measure(self.view, metric)(final), n_logits)

    def edge_gradients(
        self, mask: Bool[Tensor, "senders receivers"], metric: Metric, groups: Groups | None = None
    ) -> Float[Tensor, "means_and_rms senders receivers"]:
        """See `Evaluator`."""
        _, sums = self.differentiated(self._defined(mask[None])[0], metric, groups)
        sizes = [len(self.prompts)] if groups is None else groups.sum(1).tolist()
        parts = sums.cpu() / torch.tensor([*sizes, len(self.prompts)])[:, None, None]
        *means, squares = parts.masked_fill(~self.graph.exists, 0.0)
        return torch.stack([*means, squares.sqrt()])

    def path_gradients(
        self, mask: Bool[Tensor, "senders receivers"], heads: Sequence[int], metric: Metric
    ) -> Float[Tensor, "heads targets sources"]:
        """See `Evaluator`."""
        from acdc_engine.patch.attention_paths import Gains

        gains = Gains(heads, self.graph.n_spans)
        self.differentiated(self._defined(mask[None])[0], metric, watches=gains)
        return gains.sums / len(self.prompts)

    @torch.no_grad()
    def path_values(
        self, mask: Bool[Tensor, "senders receivers"], paths: Sequence["HeadPath"], metric: Metric
    ) -> Float[Tensor, "paths prompts"]:
        """See `Evaluator`. Those of a head are run together, from the head on."""
        self.exact_evaluations += len(paths)
        circuit, by_head = self._defined(mask[None])[0], dict[int, list[int]]()
        for place, path in enumerate(paths):
            by_head.setdefault(path.head, []).append(place)
        (unchanged,) = Variants.of(circuit, circuit[None]).candidates
        n_logits = 0 if metric.answers_only else self.view.d_vocab

        def of_batch(ready: _Ready, bank: Bank) -> Tensor:
            taken, parts = partial(self._taken, ready, bank, ready.measure(self.view, metric), n_logits), list[Tensor]()
            for places in by_head.values():
                same = Variants(circuit, (unchanged,) * len(places))
                parts += taken(same, [paths[place] for place in places])
            return torch.cat(parts)

        rows = [*map(of_batch, self._ready, self._banks_of(circuit))]
        order = torch.tensor([place for places in by_head.values() for place in places]).argsort()
        return self._in_order(rows, 1)[order.to(self.view.device)]

    def differentiated(
        self,
        weights: Shaped[Tensor, "senders receivers"],
        metric: Metric,
        groups: Groups | None = None,
        watches: "Watches | None" = None,
    ) -> tuple[Float[Tensor, "prompts"], Float[Tensor, "sums_and_squares senders receivers"]]:
        """Runs one mask, which may have weights between 0 and 1 for edges, and differentiates with respect to them.

        Returns:
            The metric of every prompt; sums over each group of its gradients, and over all prompts of their squares.
        """
        nothing = np.empty(0, np.int64)
        masks = Masks(weights.numpy(force=True), (nothing,), nothing)
        plan = make_plan(self.graph, self.view.twins, masks, all_positions=True)
        shape = 2 if groups is None else len(groups) + 1, *weights.shape
        sums = torch.zeros(shape, dtype=torch.float32, device=self.view.device)

        def of_batch(ready: _Ready, rows: list[int]) -> Tensor:
            check_gradients(self.view, ready.baseline.final)
            self._before_run()
            run = PatchedRun(self.view, ready.baseline, plan, masks, ready.input, watches)
            some = None if groups is None else groups[:, rows].to(self.view.device, torch.float32)
            found, gradients = run.edge_gradients(ready.measure(self.view, metric), some)
            sums.add_(gradients)
            return found

        return self._in_order([*map(of_batch, self._ready, self._rows)], 0), sums

    @torch.no_grad()
    def _each(self, circuits: Circuits, take: Callable[[_Ready, Tensor], Tensor], n_logits: int) -> Tensor:
        """Runs every circuit; of what the logits read `[masks, batch, d_model]` only what `take` makes of it is kept.

        `n_logits` of each prompt are what it takes room for meanwhile. Variants start at the first block they change,
        and only what a changed edge leads to is computed; the values are the same, up to rounding.
        """
        if not len(circuits):
            raise MethodError("There are no circuits to run.")
        self.exact_evaluations += len(circuits)
        near, variants = isinstance(circuits, Variants), self._variants(circuits)
        known: Iterable[Bank | None] = self._banks_of(variants.base) if near else [None] * len(self._rows)
        groups = self._alike(variants, near)

        def of_batch(ready: _Ready, bank: Bank | None) -> Tensor:
            taken = partial(self._taken, ready, bank, partial(take, ready), n_logits)
            return torch.cat([part for group in groups for part in taken(variants[group])])

        rows = [*map(of_batch, self._ready, known)]
        return self._in_order(rows, 1)[torch.from_numpy(np.concatenate(groups).argsort()).to(self.view.device)]

    def _variants(self, circuits: Circuits) -> Variants:
        """Circuits as how they differ from their base, or from the first of them; cleaned where that counts."""
        if not isinstance(circuits, Variants):
            masks = self._defined(circuits)
            return Variants.of(masks[0], masks)
        if not self._cleans:
            return circuits
        return Variants.of(self._defined(circuits.base[None])[0], self._defined(circuits.masks()))

    def _defined(self, masks: Tensor) -> Bool[Tensor, "circuits senders receivers"]:
        masks = masks.cpu().bool() & self.graph.exists
        return clean(self.graph, masks) if self._cleans else masks

    def _in_order(self, parts: list[Tensor], dim: int) -> Tensor:
        """What batches gave, prompts in the order in which they came."""
        whole = torch.cat(parts, dim)
        return whole if self._order is None else whole.index_select(dim, self._order)

    def _banks_of(self, mask: Bool[Tensor, "senders receivers"]) -> Iterable[Bank]:
        """What a run of a mask leaves, for masks that differ from it in few edges; run once and kept."""
        if self._near is None or not (self._near[0] is mask or torch.equal(self._near[0], mask)):
            self._near = None
            masks = Masks.near(mask.numpy(), Variants.of(mask, mask[None]).candidates)
            plan = make_plan(self.graph, self.view.twins, masks)

            def left_by(ready: _Ready) -> Bank:
                self._before_run()
                run = PatchedRun(self.view, ready.baseline, plan, masks, ready.input)
                run.final()
                return ready.input.joined(run.own)

            self._near = mask, self._kept(map(left_by, self._ready))
        return self._near[1]

    def _alike(self, variants: Variants, near: bool) -> list[list[int]]:
        """Places of circuits that go together: they have the same nodes or, near a base, change the same receivers.

        Circuits that run together compute the union of what each of them needs.

        On a CPU a node more in a batch costs what it costs alone; on a GPU larger batches are worth it, as long as all
        of them start at late layers.
        """
        if near:
            changed = (np.concatenate([one.remove, one.add]) for one in variants.candidates)
            needs = [np.unique(edges % self.graph.n_receivers // self.graph.n_spans) for edges in changed]
        else:
            masks = [self.graph.plain(mask) for mask in variants.masks().numpy()]
            needs = [np.flatnonzero(np.concatenate([mask.any(0), mask.any(1)])) for mask in masks]
        if self.view.device.type != "cpu":
            first = [int(one[0]) if len(one) else self.graph.n_receivers for one in needs]
            return [np.argsort(first, kind="stable").tolist()]
        kinds: dict[bytes, list[int]] = {}
        for place, one in enumerate(needs):
            kinds.setdefault(one.tobytes(), []).append(place)
        return list(kinds.values())

    def _taken(
        self,
        ready: _Ready,
        known: Bank | None,
        take: Callable[[Tensor], Tensor],
        n_logits: int,
        variants: Variants,
        paths: Sequence["HeadPath"] = (),
    ) -> Iterator[Tensor]:
        """Runs circuits, as many at once as there is room for, or as memory allows; yields what is taken of each run.

        What one run holds, and one layer's inputs and their norms, stay within bounds. `paths` are one for each
        circuit, to be taken away there.
        """
        base, start, most = variants.base.numpy(), 0, _MOST_MASKS
        while start < len(variants):
            touched = [path.head for path in paths[start : start + most]]
            masks = Masks.near(base, variants.candidates[start : start + most])
            plan = make_plan(self.graph, self.view.twins, masks, known=known, touched=touched)
            fitting = max(1, self.view.room.circuits // self._bytes_per_mask(plan, ready.baseline, n_logits))
            if fitting < len(masks):
                masks = Masks.near(base, variants.candidates[start : start + fitting])
                plan = make_plan(self.graph, self.view.twins, masks, known=known, touched=touched[:fitting])
            self._before_run()
            without, out = _without(paths[start : start + len(masks)]), list[Tensor]()
            try:
                bank = known or ready.input
                out.append(take(PatchedRun(self.view, ready.baseline, plan, masks, bank, without).final()))
            except torch.OutOfMemoryError as error:
                if len(masks) == 1:
                    raise out_of_memory(f"a circuit on {len(ready.batch)} prompts (--batch-size)") from error
                most = len(masks) // 2
            if out:
                yield out[0]
                start += len(masks)
            else:  # outside of the handler: the error holds on to the tensors of where it came from
                torch.cuda.empty_cache()

    def _bytes_per_mask(self, plan: Plan, baseline: Baseline, n_logits: int) -> int:
        wide, narrow = len(plan.everywhere), len(plan.computed)
        wide += 3 * max((len(step.rows) for step in plan.steps if step.everywhere), default=0)
        narrow += 3 * max((len(step.rows) for step in plan.steps), default=1)
        # What spreads is read at all positions, wherever the rest of its block is.
        wide += 6 * any(self.graph.blocks[step.place].spreads.any() for step in plan.steps)
        n, pos, d_model = baseline.embed.shape
        numbers = (wide * pos + narrow) * n * d_model
        numbers += 2 * n * n_logits + 2 * self.graph.exists.numel()
        return max(1, numbers * self.view.unembed_weight.element_size())


def _without(paths: Sequence["HeadPath"]) -> "Watches | None":
    if not paths:
        return None
    from acdc_engine.patch.attention_paths import Withheld

    return Withheld(paths)


def _alike_first(prompts: PromptSet, parts: list[list[int]]) -> list[list[int]]:
    """Rows that run together, with prompts of the same spans side by side: what belongs to a span is then a block."""
    if prompts.span_at is None:
        return parts
    spans = prompts.span_at.tolist()
    return [sorted(rows, key=lambda row: spans[row]) for rows in parts]
