"""The exact intervention: running the model under one or many edge masks, and differentiating such a run.

Under mask M receiver v reads

    input_v = ablated residual stream at v + sum over u of M[u, v] * (current_u - ablated_u)

with current_u computed in the patched run itself (Wang et al. 2022's path patching, for all edges at once; the form of
Conmy et al. 2023, arXiv 2304.14997, algorithm 1, and of Hanna et al. 2024). All masks of a call run in one batch, and
take from an earlier run of a similar mask what no changed edge leads to.

Which nodes are computed, and where, is decided before the run starts: `plan.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from acdc_engine.model.layers import read_positions
from acdc_engine.model.twins import Patched, Reads
from acdc_engine.model.view import TransformerView
from acdc_engine.patch.ablations import Baseline
from acdc_engine.patch.plan import Plan, Step
from acdc_engine.patch.sums import Bank, Masks, Pack, Sums, Weights

if TYPE_CHECKING:
    from acdc_engine.model.mixed import Watch
    from acdc_engine.patch.attention_paths import Watches
    from acdc_engine.patch.places import PlacedSums, Tokens


@dataclass(frozen=True, eq=False)
class _Stage:
    """A step with what it needs of the masks.

    Attributes:
        step: The step.
        done: Senders computed before it; `wide` those of them that are kept at all positions.
        here: Inputs of receivers that act where they read; `elsewhere` of those that spread.
        read: Whether anyone reads the senders under each mask, a place in the pack.
        ids: Its receivers' numbers, `here` before `elsewhere`, a place in the pack.
        tokens: Those at which it is computed, where that is everywhere and places are told apart.
    """

    step: Step
    done: int
    wide: int
    here: "Sums | PlacedSums"
    elsewhere: "Sums | PlacedSums"
    read: int
    ids: tuple[int, int]
    tokens: "Tokens | None"


class PatchedRun:
    """One batch of prompts under a set of masks. What it needs of them is decided and moved when it is made.

    Args:
        view: The model.
        baseline: The ablated model on the prompts.
        plan: Which nodes run.
        masks: Kept edges; or weights between 0 and 1.
        shared: Changes of senders that the masks share, for all of them; the plan says which of them hold.
        watches: Makes what watches the attention of each block, where the prompts have spans.

    Attributes:
        own: Changes of the senders computed here.
    """

    def __init__(
        self,
        view: TransformerView,
        baseline: Baseline,
        plan: Plan,
        masks: Masks,
        shared: Bank,
        watches: "Watches | None" = None,
    ) -> None:
        """Lays out the run and makes room for the computed senders."""
        self.view, self.baseline, self.masks, self.shared, self._watches = view, baseline, masks, shared, watches
        self._tokens = baseline.tokens
        graph = view.graph if self._tokens is None else self._tokens.graph
        self._groups: Tensor | None = None
        self.own = Bank.empty(plan.everywhere, plan.computed, len(masks), baseline.embed, plan.spans)
        self._pack = Pack()
        self._weights = Weights(graph, masks, plan.shared, shared, self.own, self._pack)
        done = wide = 0
        self._stages = []
        for step in plan.steps:
            self._stages.append(self._stage(step, done, wide))
            done, wide = done + len(step.senders), wide + step.everywhere * len(step.senders)
        logits = np.array([view.graph.logits])
        self._logits = self._weights.sums(logits, view.graph.logits, False, len(self.own.all))
        self._banks = self._pack.add(shared.all), self._pack.add(self.own.all), self._pack.add(logits)
        self._pack.move(view.device, view.dtype)

    def _stage(self, step: Step, done: int, wide: int) -> _Stage:
        block, twin = self.view.graph.blocks[step.place], self.view.twins[step.place]
        spreads = block.spreads[step.rows - block.reads.start]
        here, elsewhere = step.rows[~spreads], step.rows[spreads]
        shape = len(self.masks), len(step.senders)
        return _Stage(
            step,
            done,
            wide,
            self._sums(here, block.reads.start, step.everywhere, wide if step.everywhere else done),
            self._sums(elsewhere, block.reads.start, True, wide),
            self._pack.add(self._weights.readers(step.senders) if twin.coupled else np.ones(shape, np.bool_)),
            (self._pack.add(here), self._pack.add(elsewhere)),
            self._tokens_of(step),
        )

    def _tokens_of(self, step: Step) -> "Tokens | None":
        """All tokens, or those of the spans at which the step is needed, where these are fewer."""
        if self._tokens is None or step.spans is None or step.spans.all():
            return self._tokens
        return self._tokens.some(tuple(np.flatnonzero(step.spans).tolist()))

    def _sums(self, rows: NDArray[np.int64], first: int, everywhere: bool, done: int) -> "Sums | PlacedSums":
        """How some receivers' inputs are summed up; at the reading positions there is one span alone."""
        if self._tokens is None:
            return self._weights.sums(rows, first, everywhere, done)
        if not everywhere:
            return self._weights.sums(rows, first, everywhere, done, self._tokens.end)
        from acdc_engine.patch.places import PlacedSums

        differ = [(span, self._weights.differ(rows, span)) for span in range(self._tokens.n_spans)]
        parts = [(at, self._weights.sums(rows[some], first, True, done, at)) for at, some in differ if some.any()]
        most = None if self._weights.common is None else self._weights.sums_of_most_spans(rows, first, done)
        return PlacedSums.of((rows - first).tolist(), most, parts)

    @torch.no_grad()
    def final(self) -> Float[Tensor, "masks batch d_model"]:
        """What the logits read at the reading positions, under every mask."""
        for stage in self._stages:
            delta = self._compute(stage, *self._inputs(stage))
            at = None if stage.tokens is None else stage.tokens.at
            self.own.store(stage.step.senders, stage.step.everywhere, delta, self.baseline.read_at, at)
        return self._final_inputs()

    def edge_gradients(
        self,
        measure: Callable[[Float[Tensor, "masks batch d_model"]], Float[Tensor, "masks batch"]],
        groups: Float[Tensor, "groups batch"] | None = None,
    ) -> tuple[Float[Tensor, "batch"], Float[Tensor, "sums_and_squares senders receivers"]]:
        """Gradient of every prompt's metric with respect to every entry of the (single) mask.

        d metric / d M[u, v] = (current_u - ablated_u) . d metric / d input_v, everything taken in the patched run: to
        first order, what removing a kept edge costs (and adding a missing one gains). At the full mask under patch
        ablation it is EAP's score. Reverse mode over the steps by hand, autograd inside each step. The plan must
        compute everything at all positions.

        Args:
            measure: From what the logits read to the metric of every prompt, higher for more of the behaviour.
            groups: 1 for the prompts of each group, 0 for others; None for one group of all.

        Returns:
            The metric of every prompt; sums over each group of the gradients, and over all prompts of their squares,
            from computed senders into receivers with kept incoming edges, zero elsewhere: not computed.
        """
        tape: list[tuple[_Stage, list[Tensor], Tensor]] = []
        for stage in self._stages:
            reads = self._inputs(stage)
            inputs = [part.values.requires_grad_() for part in reads]
            counted = self.view.work.operations
            with torch.enable_grad():
                delta = self._compute(stage, *reads)
            self.view.work.operations += self.view.work.operations - counted  # as much again for its gradient
            self.own.store(stage.step.senders, True, delta.detach(), self.baseline.read_at)
            tape.append((stage, inputs, delta))
        self._groups, parts = groups, 2 if groups is None else len(groups) + 1
        out = torch.zeros(parts, *self.masks.usual.shape, dtype=torch.float32, device=self.view.device)
        flow = torch.zeros_like(self.own.values[0])
        final = self._final_inputs().requires_grad_()
        with torch.enable_grad():
            (values,) = measure(final)
        (at_final,) = torch.autograd.grad(values, final, torch.ones_like(values))
        self._pull_back_final(at_final[0], flow, out)
        while tape:
            stage, inputs, delta = tape.pop()
            pulled = flow[stage.done : stage.done + len(stage.step.senders)][None]
            gradients = torch.autograd.grad(delta, inputs, pulled, allow_unused=True, materialize_grads=True)
            for sums, rows, gradient in zip((stage.here, stage.elsewhere), stage.ids, gradients, strict=True):
                if sums.moving:
                    self._pull_back(sums, rows, stage.done, gradient[0], flow, out)
        return values.detach(), out

    def _inputs(self, stage: _Stage) -> tuple[Reads, Reads]:
        """What receivers that act where they read are given, and those that spread."""
        base = self.baseline.grounds[stage.step.place].x
        wide = self.own.values[:, : stage.wide]
        elsewhere = self._everywhere(stage.elsewhere, base, wide, self._tokens)
        if stage.step.everywhere:
            return self._everywhere(stage.here, base, wide, stage.tokens), elsewhere
        assert isinstance(stage.here, Sums), "at the reading positions there is one span"
        return self._at_reads(stage.here, read_positions(base, self.baseline.read_at), stage.done), elsewhere

    def _everywhere(self, sums: "Sums | PlacedSums", base: Tensor, wide: Tensor, tokens: "Tokens | None") -> Reads:
        given = base, self.shared.values, wide, self._pack, self.view.work
        if isinstance(sums, Sums):
            return sums.reads(*given)
        assert tokens is not None, "the masks have spans"
        return sums.reads(*given, tokens)

    def _at_reads(self, sums: Sums, base: Float[Tensor, "batch d_model"], done: int) -> Reads:
        shared, own = self.shared.at_reads[:, :, :, None], self.own.at_reads[:, :done, :, None]
        return sums.reads(base[:, None], shared, own, self._pack, self.view.work)

    def _final_inputs(self) -> Float[Tensor, "masks batch d_model"]:
        """What the logits read; the plain baseline where no edge into them is kept."""
        return self._at_reads(self._logits, self.baseline.final, len(self.own.all)).of(0)[:, :, 0]

    def _compute(self, stage: _Stage, here: Reads, elsewhere: Reads) -> Tensor:
        step, twin = stage.step, self.view.twins[stage.step.place]
        senders = (step.senders - twin.block.writes.start).tolist()
        at: Tensor | None = self.baseline.read_at[:, None]
        if step.everywhere:
            at = None if stage.tokens is None else stage.tokens.at
        read, watch = self._read(stage, step.everywhere), self._watch(stage)
        patched = Patched(senders, here, elsewhere, read, at, watch)
        return twin.change(patched, self.baseline.grounds[step.place], self.view.work)

    def _watch(self, stage: _Stage) -> "Watch | None":
        if self._watches is None:
            return None
        assert self._tokens is not None and stage.tokens is not None, "the masks have spans"
        end = torch.full_like(self.baseline.read_at[:, None], self._tokens.end)
        targets = stage.tokens.spans if stage.step.everywhere else end
        return self._watches(self.view.graph.blocks[stage.step.place], targets, self._tokens.spans)

    def _read(self, stage: _Stage, everywhere: bool) -> Tensor:
        """Whether anyone reads the senders, token by token where that depends on their span."""
        read = self._pack[stage.read] != 0
        if read.ndim == 2 or self._tokens is None:
            return read.reshape(*read.shape[:2], 1, 1)
        assert stage.tokens is not None, "the masks have spans"
        return stage.tokens.spread(read) if everywhere else read[:, :, None, self._tokens.end, None]

    def _pull_back(
        self, sums: "Sums | PlacedSums", rows: int, before: int, gradient: Tensor, flow: Tensor, out: Tensor
    ) -> None:
        banks = ((self._banks[0], self.shared.values[0]), (self._banks[1], self.own.values[0, :before]))
        for senders, values in banks:
            self.view.work.product(len(values), gradient.numel())
            if self._tokens is None:
                product = torch.matmul(_by_prompt(values), _by_prompt(gradient).transpose(1, 2))
                self._note(out, senders, rows, product.float())
                continue
            for span, product in enumerate(self._tokens.products(values, gradient).float()):
                self._note(out, senders, rows, product, span)
        if isinstance(sums, Sums):
            self._pull_through(sums, gradient.flatten(1), flow.flatten(1))
            return
        assert self._tokens is not None, "the masks have spans"
        if sums.most is not None:
            self._pull_through(sums.most, gradient.flatten(1), flow.flatten(1))
        for span, part in sums.parts:
            tokens, rows_there = self._tokens.of_span[span], [sums.moving.index(place) for place in part.moving]
            if not len(tokens):
                continue
            some = torch.stack([gradient[row].flatten(0, 1)[tokens] for row in rows_there]).flatten(1)
            there = flow.flatten(1, 2)[:, tokens]
            pulled = there.flatten(1)
            self._pull_through(part, some, pulled)
            flow.flatten(1, 2)[:, tokens] = pulled.view_as(there)

    def _pull_through(self, sums: Sums, gradient: Float[Tensor, "moving n"], flow: Float[Tensor, "own n"]) -> None:
        """Adds to the gradients at what senders wrote those that come through the sums, in place."""
        weights = self._pack[sums.weights]
        self.view.work.product(weights.shape[1], gradient.numel())
        if sums.own.index is None:
            flow[sums.own.slice].addmm_(weights.T, gradient)
        else:
            flow.index_add_(0, self._pack[sums.own.index], weights.T @ gradient)

    def _pull_back_final(self, gradient: Tensor, flow: Tensor, out: Tensor) -> None:
        for senders, bank in zip(self._banks, (self.shared, self.own), strict=False):
            per_prompt = torch.einsum("und,nd->nu", bank.at_reads[0], gradient).float()
            self._note(out, senders, self._banks[2], per_prompt[:, :, None])
        at, (own, weights) = torch.arange(flow.shape[1], device=flow.device), (self._logits.own, self._logits.weights)
        if self._pack[weights].numel():
            pulled = self._pack[weights][0, :, None, None] * gradient
            if own.index is None:
                flow[own.slice][:, at, self.baseline.read_at] += pulled
            else:
                flow[self._pack[own.index][:, None], at, self.baseline.read_at] += pulled

    def _note(
        self, out: Tensor, senders: int, rows: int, per_prompt: Float[Tensor, "batch senders rows"], span: int = 0
    ) -> None:
        """Puts in, summed, what belongs to the first so many senders of a bank and to some receivers at a span."""
        at = self._pack[rows]
        if self._tokens is not None:
            at = (at * self._tokens.n_spans + span).clamp(max=out.shape[-1] - 1)  # the last are the logits
        places = self._pack[senders][: per_prompt.shape[1], None], at[None]
        for place, group in enumerate([None] if self._groups is None else self._groups):
            out[place, *places] = (per_prompt if group is None else per_prompt * group[:, None, None]).sum(0)
        out[-1, *places] = per_prompt.square().sum(0)


def _by_prompt(values: Float[Tensor, "some batch pos d_model"]) -> Float[Tensor, "batch some numbers"]:
    return values.transpose(0, 1).flatten(2)
