"""The exact intervention: running the model under one or many edge masks, and differentiating such a run.

Under mask M receiver v reads

    input_v = ablated residual stream at v + sum over u of M[u, v] * (current_u - ablated_u)

with current_u computed in the patched run itself (Wang et al. 2022's path patching, for all edges at once; the form of
Conmy et al. 2023, arXiv 2304.14997, algorithm 1, and of Hanna et al. 2024). All masks of a call run in one batch.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.models.view import Rotation, TransformerView
from acdc_engine.patching.baseline import Baseline
from acdc_engine.patching.plan import Plan, Step, make_plan
from acdc_engine.patching.steps import attention_delta, mlp_delta
from acdc_engine.prompts.metrics import Metric
from acdc_engine.prompts.prompt_set import PromptSet


@dataclass
class PatchedRun:
    """One batch of prompts under a set of masks. Made by `start_run`.

    Attributes:
        view: The model.
        batch: The prompts.
        baseline: The ablated model on them.
        plan: Which nodes run.
        weights: The masks as numbers, computed senders only `[masks, receivers, computed]`.
        deltas: `current_u - ablated_u` of computed senders `[masks, computed, batch * pos * d_model]`.
        rotations: Rotary table of each layer.
    """

    view: TransformerView
    batch: PromptSet
    baseline: Baseline
    plan: Plan
    weights: Tensor
    deltas: Tensor
    rotations: list[Rotation | None]

    @torch.no_grad()
    def logits(self) -> Float[Tensor, "masks batch d_vocab"]:
        """Logits at the reading positions under every mask."""
        for step in self.plan.steps[:-1]:
            self._store(step, self._compute(step, self._inputs(step)))
        return self.view.unembed(self._final_inputs(self.plan.steps[-1]))

    def edge_gradients(self, metric: Metric, clean_logits: Tensor | None) -> Float[Tensor, "senders receivers"]:
        """Gradient of the metric, summed over the batch, with respect to every entry of the (single) mask.

        d metric / d M[u, v] = (current_u - ablated_u) . d metric / d input_v, everything taken in the patched run: to
        first order, what removing a kept edge costs (and adding a missing one gains). At the full mask under patch
        ablation it is EAP's score. Reverse mode over the steps by hand, autograd inside each step.

        Args:
            metric: The metric, higher for more of the behaviour.
            clean_logits: Logits of the clean run where the metric compares with them.

        Returns:
            Gradients from computed senders into receivers with kept incoming edges. Zero elsewhere: not computed.
        """
        tape: list[tuple[Step, Tensor, Tensor]] = []
        for step in self.plan.steps[:-1]:
            inputs = self._inputs(step).requires_grad_()
            with torch.enable_grad():
                delta = self._compute(step, inputs)
            self._store(step, delta.detach())
            tape.append((step, inputs, delta))
        last = self.plan.steps[-1]
        out = torch.zeros(self.view.graph.n_senders, self.view.graph.n_receivers, device=self.view.device)
        flow = torch.zeros_like(self.deltas[0])
        final = self._final_inputs(last).requires_grad_()
        with torch.enable_grad():
            value = metric(self.view.unembed(final)[0], self.batch, clean_logits).sum()
        (at_final,) = torch.autograd.grad(value, final)
        self._pull_back_final(last, at_final[0], flow, out)
        while tape:
            step, inputs, delta = tape.pop()
            places = self._places(step)
            (gradient,) = torch.autograd.grad(delta, inputs, flow[places].view_as(delta))
            self._pull_back(step, gradient[0].flatten(1), flow, out)
        return out

    def _inputs(self, step: Step) -> Float[Tensor, "masks rows batch pos d_model"]:
        base = (self.baseline.attention_in if step.kind == "attention" else self.baseline.mlp_in)[step.layer]
        kept = self.weights[:, list(step.rows), : step.before]
        added = torch.bmm(kept, self.deltas[:, : step.before])
        return added.view(*added.shape[:2], *base.shape) + base

    def _final_inputs(self, step: Step) -> Float[Tensor, "masks batch d_model"]:
        base = self.baseline.final.expand(self.weights.shape[0], -1, -1)
        if not step.rows:
            return base.clone()
        kept = self.weights[:, step.rows[0], : step.before]
        return base + torch.einsum("mu,mund->mnd", kept, self._at_read_positions())

    def _at_read_positions(self) -> Float[Tensor, "masks computed batch d_model"]:
        n, pos = self.batch.clean.shape
        spread = self.deltas.view(*self.deltas.shape[:2], n, pos, self.view.d_model)
        return spread[:, :, torch.arange(n, device=spread.device), self.batch.read_at]

    def _compute(self, step: Step, inputs: Tensor) -> Tensor:
        if step.kind == "mlp":
            return mlp_delta(self.view, step, inputs, self.baseline)
        read = (self.weights[:, :, self._places(step)] != 0).any(1)
        return attention_delta(self.view, step, inputs, self.baseline, self.rotations[step.layer], read)

    def _places(self, step: Step) -> slice:
        """Where the step's senders lie in the buffer. They are consecutive: the plan computes them together."""
        first = self.plan.senders.index(step.senders[0])
        return slice(first, first + len(step.senders))

    def _store(self, step: Step, delta: Tensor) -> None:
        self.deltas[:, self._places(step)] = delta.flatten(2)

    def _pull_back(self, step: Step, gradient: Tensor, flow: Tensor, out: Tensor) -> None:
        rows, earlier = list(step.rows), self.deltas[0, : step.before]
        out[self._pairs(step, rows)] = (earlier @ gradient.T).float()
        flow[: step.before].addmm_(self.weights[0, rows, : step.before].T, gradient)

    def _pull_back_final(self, step: Step, gradient: Tensor, flow: Tensor, out: Tensor) -> None:
        deltas = self._at_read_positions()[0]
        scores = torch.einsum("und,nd->u", deltas, gradient).float()
        out[self._pairs(step, [self.view.graph.logits])] = scores[:, None]
        if not step.rows:
            return
        n, pos = self.batch.clean.shape
        spread = flow.unflatten(1, (n, pos, -1))
        at = torch.arange(n, device=flow.device)
        spread[:, at, self.batch.read_at] += self.weights[0, step.rows[0]][:, None, None] * gradient

    def _pairs(self, step: Step, rows: list[int]) -> tuple[Tensor, Tensor]:
        senders = torch.as_tensor(self.plan.senders[: step.before], device=self.view.device, dtype=torch.long)
        return senders[:, None], torch.as_tensor(rows, device=self.view.device)[None]


@torch.no_grad()
def start_run(
    view: TransformerView, batch: PromptSet, baseline: Baseline, clean_embed: Tensor, masks: Bool[Tensor, "m s r"]
) -> PatchedRun:
    """Plans a run and puts the input sender's change into its buffer.

    Args:
        view: The model.
        batch: The prompts, on the model's device.
        baseline: The ablated model on them.
        clean_embed: What `input` writes on the clean prompts.
        masks: Kept edges, one mask per run.
    """
    plan = make_plan(view.graph, masks, [layer.attention.norm_spans_heads for layer in view.layers])
    senders = torch.as_tensor(plan.senders, dtype=torch.long)
    weights = masks.cpu()[:, senders].transpose(1, 2).to(view.device, view.dtype)
    n, pos = batch.clean.shape
    deltas = torch.empty(len(masks), len(senders), n * pos * view.d_model, device=view.device, dtype=view.dtype)
    if plan.senders and plan.senders[0] == view.graph.INPUT:
        deltas[:, 0] = (clean_embed - baseline.values.embed).flatten()
    return PatchedRun(view, batch, baseline, plan, weights, deltas, view.rotations(pos))
