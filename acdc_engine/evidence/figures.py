"""The figures a circuit is judged by."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.evidence.answers import answer_figures
from acdc_engine.evidence.bootstrap import ratio_interval
from acdc_engine.graph.evidence_records import Figures, Interval, TemplateFigures
from acdc_engine.patch.judge import Judge
from acdc_engine.prompts.metrics import accuracy, get_metric

TWO_SIGNED = ("logit_diff", "prob_diff")
"""Metrics whose sign says which answer wins."""


@dataclass(frozen=True)
class PromptValues:
    """What one circuit does on every prompt, on the CPU.

    Attributes:
        metric: The judge's metric; higher for more of the behaviour.
        kl: KL(model || circuit) in nats.
        kl_ablated: KL(model || ablated model) in nats.
        logits: At the reading positions, on the model's device.
    """

    metric: Float[Tensor, "prompts"]
    kl: Float[Tensor, "prompts"]
    kl_ablated: Float[Tensor, "prompts"]
    logits: Float[Tensor, "prompts d_vocab"]

    @property
    def kl_recovered(self) -> float:
        """Share of the ablated model's KL divergence that is gone: 1 - mean kl / mean kl_ablated; 0 without any."""
        return _recovered(self.kl, self.kl_ablated)


def prompt_values(judge: Judge, mask: Bool[Tensor, "senders receivers"]) -> PromptValues:
    """Runs one circuit once, for the metric and for KL."""
    evaluator, kl = judge.evaluator, get_metric("kl")
    prompts = evaluator.prompts
    logits, clean, ablated = evaluator.logits(mask[None])[0], evaluator.clean_logits(), evaluator.ablated_logits()
    return PromptValues(
        metric=judge.metric(logits, prompts, clean).float().cpu(),
        kl=-kl(_exact(logits), prompts, _exact(clean)).cpu(),
        kl_ablated=-kl(_exact(ablated), prompts, _exact(clean)).cpu(),
        logits=logits,
    )


def _exact(logits: Tensor) -> Tensor:
    """KL of outputs that hardly differ is lost in the rounding of float32; float64 is not to be had everywhere."""
    return logits if logits.device.type == "mps" else logits.double()


def _recovered(kl: Float[Tensor, "prompts"], kl_ablated: Float[Tensor, "prompts"]) -> float:
    whole = float(kl_ablated.double().mean())
    return 1.0 - float(kl.double().mean()) / whole if whole else 0.0


def figures_of(judge: Judge, mask: Bool[Tensor, "senders receivers"], seed: int = 0) -> Figures:
    """Judges one circuit three ways: faithfulness, KL recovered, and prompt by prompt.

    A mean can hide errors that cancel, so faithfulness stands beside

        KL recovered = 1 - KL(model || circuit) / KL(model || ablated)   (means over prompts; cannot exceed 1)
        normalised error = mean |m(circuit) - m(clean)| / |mean m(clean) - mean m(ablated)|

    and the share of prompts on which circuit and model agree (see `Figures`). Faithfulness and KL recovered come with
    bootstrap intervals over the prompts, from the same single run (`ratio_interval`). The same three are given for each
    template by itself, with its own m(clean) and m(ablated), since a constant bias of one template can cancel that of
    another; and beside the metric what becomes of the answers themselves (`answer_figures`).

    Args:
        judge: The prompts.
        mask: The circuit.
        seed: Of the bootstrap.
    """
    evaluator = judge.evaluator
    prompts = evaluator.prompts
    found, clean = prompt_values(judge, mask), evaluator.clean_logits()
    values = found.metric
    if judge.metric.name in TWO_SIGNED:
        agree = values.sign() == judge.clean.sign()
    else:
        agree = found.logits.argmax(-1) == clean.argmax(-1)
    has_answers = bool(prompts.answers.shape[1])
    return Figures(
        n_prompts=len(prompts),
        metric_clean=float(judge.clean.mean()),
        metric_corrupt=float(judge.ablated.mean()),
        metric_circuit=float(values.mean()),
        faithfulness=judge.faithfulness_of(values),
        kl_recovered=found.kl_recovered,
        agreement=float(agree.float().mean()),
        normalised_error=float((values - judge.clean).abs().mean() / abs(judge.range)),
        accuracy_clean=float(accuracy(clean, prompts).float().mean()) if has_answers else None,
        faithfulness_interval=ratio_interval(values, judge.clean, judge.ablated, seed),
        kl_interval=_kl_interval(found.kl, found.kl_ablated, seed),
        answers_clean=answer_figures(clean, prompts),
        answers_corrupt=answer_figures(evaluator.ablated_logits(), prompts),
        answers_circuit=answer_figures(found.logits, prompts),
        templates=tuple(_templates(judge, found, agree.cpu(), seed)),
    )


def _kl_interval(kl: Float[Tensor, "prompts"], kl_ablated: Float[Tensor, "prompts"], seed: int) -> Interval | None:
    return ratio_interval(-kl, torch.zeros_like(kl), -kl_ablated, seed)


def _templates(
    judge: Judge, found: PromptValues, agree: Bool[Tensor, "prompts"], seed: int
) -> Iterator[TemplateFigures]:
    """The figures of every template, in the order of the prompts; none where there is only one."""
    of_prompts = judge.prompts.templates
    names = list(dict.fromkeys(of_prompts))
    for name in names if len(names) > 1 else []:
        rows = torch.tensor([other == name for other in of_prompts])
        circuit, clean, ablated = found.metric[rows], judge.clean[rows], judge.ablated[rows]
        kl, kl_ablated = found.kl[rows], found.kl_ablated[rows]
        span = judge.span(rows)
        faithful = None if span is None else float((circuit - ablated).double().mean()) / span
        yield TemplateFigures(
            name=name,
            n_prompts=int(rows.sum()),
            faithfulness=faithful,
            faithfulness_interval=None if span is None else ratio_interval(circuit, clean, ablated, seed),
            kl_recovered=_recovered(kl, kl_ablated),
            kl_interval=_kl_interval(kl, kl_ablated, seed),
            agreement=float(agree[rows].float().mean()),
        )
