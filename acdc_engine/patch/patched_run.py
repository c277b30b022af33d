"""The exact intervention: running the model under one or many edge masks, and differentiating such a run.

Under mask M receiver v reads

    input_v = ablated residual stream at v + sum over u of M[u, v] * (current_u - ablated_u)

with current_u computed in the patched run itself (Wang et al. 2022's path patching, for all edges at once; the form of
Conmy et al. 2023, arXiv 2304.14997, algorithm 1, and of Hanna et al. 2024). All masks of a call run in one batch, and
take from an earlier run of a similar mask what no changed edge leads to.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from acdc_engine.model.forward import read_positions
from acdc_engine.model.view import Rotation, TransformerView
from acdc_engine.patch.bank import Bank, Reads, reads
from acdc_engine.patch.baseline import Baseline
from acdc_engine.patch.plan import Plan, Step
from acdc_engine.patch.steps import attention_delta, mlp_delta
from acdc_engine.prompts.prompt_set import PromptSet


@dataclass
class PatchedRun:
    """One batch of prompts under a set of masks.

    Attributes:
        view: The model.
        batch: The prompts, on the model's device.
        baseline: The ablated model on them.
        plan: Which nodes run.
        masks: Kept edges, one mask per run; or weights between 0 and 1.
        shared: Changes of senders that the masks share, for all of them; the plan says which of them hold.
    """

    view: TransformerView
    batch: PromptSet
    baseline: Baseline
    plan: Plan
    masks: Shaped[Tensor, "masks senders receivers"]
    shared: Bank

    def __post_init__(self) -> None:
        """Makes room for the computed senders."""
        self._kept = self.masks.to(self.view.device, self.view.dtype).transpose(1, 2).contiguous()
        like = self.baseline.values.embed
        self.own = Bank.empty(self.plan.everywhere, self.plan.computed, len(self.masks), like)
        holds = torch.zeros(self._kept.shape[2], dtype=torch.bool, device=self.view.device)
        holds[list(self.plan.shared)] = True
        self._holding = self._kept * holds
        self.rotations: list[Rotation | None] = self.view.rotations(like.shape[1])

    @torch.no_grad()
    def final(self) -> Float[Tensor, "masks batch d_model"]:
        """What the logits read at the reading positions, under every mask."""
        done = 0
        for step in self.plan.steps[:-1]:
            queries, others = self._inputs(step, done)
            self.own.store(step.senders, self._compute(step, queries, others), self.batch.read_at)
            done += len(step.senders)
        return self._final_inputs()

    def edge_gradients(
        self, measure: Callable[[Float[Tensor, "batch d_model"]], Float[Tensor, "batch"]]
    ) -> tuple[Float[Tensor, "batch"], Float[Tensor, "2 senders receivers"]]:
        """Gradient of every prompt's metric with respect to every entry of the (single) mask.

        d metric / d M[u, v] = (current_u - ablated_u) . d metric / d input_v, everything taken in the patched run: to
        first order, what removing a kept edge costs (and adding a missing one gains). At the full mask under patch
        ablation it is EAP's score. Reverse mode over the steps by hand, autograd inside each step. The plan must
        compute everything at all positions.

        Args:
            measure: From what the logits read to the metric of every prompt, higher for more of the behaviour.

        Returns:
            The metric of every prompt; sum over prompts of the gradients and of their squares, from computed senders
            into receivers with kept incoming edges, zero elsewhere: not computed.
        """
        tape: list[tuple[Step, int, list[Tensor], Tensor]] = []
        done = 0
        for step in self.plan.steps[:-1]:
            queries, others = self._inputs(step, done)
            inputs = [part.values.requires_grad_() for part in (queries, others)]
            counted = self.view.work.operations
            with torch.enable_grad():
                delta = self._compute(step, queries, others)
            self.view.work.operations += self.view.work.operations - counted  # as much again for its gradient
            self.own.store(step.senders, delta.detach(), self.batch.read_at)
            tape.append((step, done, inputs, delta))
            done += len(step.senders)
        out = torch.zeros(2, *self.masks.shape[1:], dtype=torch.float32, device=self.view.device)
        flow = torch.zeros_like(self.own.values[0])
        final = self._final_inputs().requires_grad_()
        with torch.enable_grad():
            values = measure(final[0])
        (at_final,) = torch.autograd.grad(values, final, torch.ones_like(values))
        self._pull_back_final(at_final[0], flow, out)
        while tape:
            step, before, inputs, delta = tape.pop()
            pulled = flow[before : before + len(step.senders)][None]
            gradients = torch.autograd.grad(delta, inputs, pulled, allow_unused=True, materialize_grads=True)
            self._pull_back(step, before, torch.cat(gradients, 1)[0], flow, out)
        return values.detach(), out

    def _inputs(self, step: Step, done: int) -> tuple[Reads, Reads]:
        """What the step's queries read, and its keys and values; an MLP counts among the queries."""
        queries = (
            self.view.graph.part(step.layer, "q").stop if step.kind == "attention" else self.view.graph.n_receivers
        )
        base = (self.baseline.attention_in if step.kind == "attention" else self.baseline.mlp_in)[step.layer]
        asking, asked = [r for r in step.rows if r < queries], [r for r in step.rows if r >= queries]
        return self._read(asking, base, done, step.everywhere), self._read(asked, base, done, True)

    def _read(self, rows: list[int], base: Tensor, done: int, everywhere: bool) -> Reads:
        """The residual stream as receivers read it, at all positions or at the reading ones."""
        if not everywhere:
            return self._read_at_reads(rows, read_positions(base, self.batch.read_at)[:, None], done)
        wide = sum(sender in self.own.everywhere for sender in self.own.all[:done])
        weights = self._weights(self._holding, rows, self.shared.everywhere)
        own_weights = self._weights(self._kept, rows, self.own.everywhere[:wide])
        return reads(rows, base, self.shared.values, weights, self.own.values[:, :wide], own_weights, self.view.work)

    def _read_at_reads(self, rows: list[int], base: Tensor, done: int) -> Reads:
        weights = self._weights(self._holding, rows, self.shared.all)
        own_weights = self._weights(self._kept, rows, self.own.all[:done])
        shared, own = self.shared.at_reads[:, :, :, None], self.own.at_reads[:, :done, :, None]
        return reads(rows, base, shared, weights, own, own_weights, self.view.work)

    def _weights(self, kept: Tensor, rows: list[int], senders: tuple[int, ...]) -> Float[Tensor, "masks rows senders"]:
        return kept[:, rows][:, :, list(senders)]

    def _final_inputs(self) -> Float[Tensor, "masks batch d_model"]:
        """What the logits read; the plain baseline where no edge into them is kept."""
        read = self._read_at_reads([self.view.graph.logits], self.baseline.final[:, None], len(self.own.all))
        return (read.values if read.moving else read.same.expand(len(self.masks), -1, -1, -1, -1))[:, 0, :, 0]

    def _compute(self, step: Step, queries: Reads, others: Reads) -> Tensor:
        at = None if step.everywhere else self.batch.read_at
        if step.kind == "mlp":
            inputs = queries.values if queries.moving else queries.same
            return mlp_delta(self.view, step, inputs, self.baseline, at)
        read = (self._kept[:, :, list(step.senders)] != 0).any(1)
        rotation = self.rotations[step.layer]
        return attention_delta(self.view, step, queries, others, self.baseline, rotation, read, at)

    def _pull_back(self, step: Step, before: int, gradient: Tensor, flow: Tensor, out: Tensor) -> None:
        rows = list(step.rows)
        for senders, values in ((self.shared.all, self.shared.values[0]), (self.own.all, self.own.values[0, :before])):
            self.view.work.product(len(values), gradient.numel())
            per_prompt = torch.matmul(_by_prompt(values), _by_prompt(gradient).transpose(1, 2)).float()
            self._note(out, senders[: len(values)], rows, per_prompt)
        self.view.work.product(before, gradient.numel())
        weights = self._weights(self._kept, rows, self.own.all[:before])[0]
        flow[:before].flatten(1).addmm_(weights.T, gradient.flatten(1))

    def _pull_back_final(self, gradient: Tensor, flow: Tensor, out: Tensor) -> None:
        row = [self.view.graph.logits]
        for bank in (self.shared, self.own):
            per_prompt = torch.einsum("und,nd->nu", bank.at_reads[0], gradient).float()
            self._note(out, bank.all, row, per_prompt[:, :, None])
        at = torch.arange(len(self.batch), device=flow.device)
        flow[:, at, self.batch.read_at] += self._weights(self._kept, row, self.own.all)[0, 0][:, None, None] * gradient

    def _note(self, out: Tensor, senders: tuple[int, ...], rows: list[int], per_prompt: Tensor) -> None:
        """Puts `[batch, senders, rows]` where it belongs, summed."""
        from_senders = torch.as_tensor(senders, device=self.view.device, dtype=torch.long)[:, None]
        to_rows = torch.as_tensor(rows, device=self.view.device)[None]
        out[0, from_senders, to_rows] = per_prompt.sum(0)
        out[1, from_senders, to_rows] = per_prompt.square().sum(0)


def _by_prompt(values: Float[Tensor, "some batch pos d_model"]) -> Float[Tensor, "batch some numbers"]:
    return values.transpose(0, 1).flatten(2)
