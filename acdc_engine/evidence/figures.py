"""The figures a circuit is judged by: faithfulness, KL, agreement, answers, by template; and completeness."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc_engine.evidence import Mask
from acdc_engine.evidence.resampling import ratio_interval
from acdc_engine.graph.evidence_records import AnswerFigures, Completeness, Figures, Interval, TemplateFigures
from acdc_engine.patch.judge import Judge
from acdc_engine.prompts.metrics import accuracy, get_metric, mean_over
from acdc_engine.prompts.prompt_set import NO_ANSWER, PromptSet

_TWO_SIGNED = ("logit_diff", "prob_diff")
"""Metrics whose sign says which answer wins."""


def answer_figures(logits: Float[Tensor, "prompts d_vocab"], prompts: PromptSet) -> AnswerFigures | None:
    """Looks at the answers in the logits of one run.

    `right_above_wrong` compares the answers with one another only: a model that expects neither can be right on every
    prompt. `most_likely` and `median_rank` compare with the whole vocabulary; ties count against the right answer.

    Returns:
        None for prompts without right answers.
    """
    if not prompts.answers.shape[1]:
        return None
    has_wrong = bool(prompts.wrong_answers.shape[1])
    ranks = right_ranks(logits, prompts)
    return AnswerFigures(
        right_above_wrong=float(accuracy(logits, prompts).double().mean()) if has_wrong else None,
        most_likely=float((ranks == 1).double().mean()),
        median_rank=float(ranks.double().quantile(0.5)),
        right_logit=float(mean_over(logits.double(), prompts.answers).mean()),
        wrong_logit=float(mean_over(logits.double(), prompts.wrong_answers).mean()) if has_wrong else None,
    )


def right_ranks(logits: Float[Tensor, "prompts d_vocab"], prompts: PromptSet) -> Int[Tensor, "prompts"]:
    """The best right answer's place among the tokens that are not right answers; 1 is before all of them."""
    right = torch.zeros_like(logits, dtype=torch.bool)
    rows, places = (prompts.answers != NO_ANSWER).nonzero(as_tuple=True)
    right[rows, prompts.answers[rows, places]] = True
    best = logits.masked_fill(~right, -torch.inf).amax(1, keepdim=True)
    return 1 + ((logits >= best) & ~right).sum(1)


@dataclass(frozen=True)
class _PromptValues:
    """What one circuit does on every prompt; KL is from the model, in nats, logits are on the model's device."""

    metric: Float[Tensor, "prompts"]
    kl: Float[Tensor, "prompts"]
    kl_ablated: Float[Tensor, "prompts"]
    logits: Float[Tensor, "prompts d_vocab"]

    @property
    def kl_recovered(self) -> float:
        """Share of the ablated model's KL divergence that is gone: 1 - mean kl / mean kl_ablated; 0 without any."""
        return _recovered(self.kl, self.kl_ablated)


def prompt_values(judge: Judge, mask: Mask) -> _PromptValues:
    """Runs one circuit once, for the metric and for KL."""
    evaluator, kl = judge.evaluator, get_metric("kl")
    prompts = evaluator.prompts
    logits, clean, ablated = evaluator.logits(mask[None])[0], evaluator.clean_logits(), evaluator.ablated_logits()
    return _PromptValues(
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


def figures_of(judge: Judge, mask: Mask, seed: int = 0) -> Figures:
    """Judges one circuit three ways: faithfulness, KL recovered, and prompt by prompt.

    A mean can hide errors that cancel, so faithfulness stands beside

        KL recovered = 1 - KL(model || circuit) / KL(model || ablated)   (means over prompts; cannot exceed 1)
        normalised error = mean |m(circuit) - m(clean)| / |mean m(clean) - mean m(ablated)|

    and the share of prompts on which circuit and model agree (see `Figures`). Faithfulness and KL recovered come with
    bootstrap intervals over the prompts, from the same single run (`ratio_interval`). The same three are given for each
    template by itself, with its own m(clean) and m(ablated), since a constant bias of one template can cancel that of
    another; and beside the metric what becomes of the answers themselves (`answer_figures`).
    """
    evaluator = judge.evaluator
    prompts = evaluator.prompts
    found, clean = prompt_values(judge, mask), evaluator.clean_logits()
    values = found.metric
    if judge.metric.name in _TWO_SIGNED:
        agree = values.sign() == judge.clean.sign()
    else:
        agree = found.logits.argmax(-1) == clean.argmax(-1)
    has_answers = bool(prompts.answers.shape[1])
    names = list(dict.fromkeys(prompts.templates))
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
        templates=tuple(_of_template(name, judge, found, agree.cpu(), seed) for name in names if len(names) > 1),
    )


def _kl_interval(kl: Tensor, kl_ablated: Tensor, seed: int) -> Interval | None:
    return ratio_interval(-kl, torch.zeros_like(kl), -kl_ablated, seed)


def _of_template(
    name: str, judge: Judge, found: _PromptValues, agree: Bool[Tensor, "prompts"], seed: int
) -> TemplateFigures:
    rows = torch.tensor([other == name for other in judge.prompts.templates])
    circuit, clean, ablated = found.metric[rows], judge.clean[rows], judge.ablated[rows]
    kl, kl_ablated, span = found.kl[rows], found.kl_ablated[rows], judge.span(rows)
    return TemplateFigures(
        name=name,
        n_prompts=int(rows.sum()),
        faithfulness=None if span is None else float((circuit - ablated).double().mean()) / span,
        faithfulness_interval=None if span is None else ratio_interval(circuit, clean, ablated, seed),
        kl_recovered=_recovered(kl, kl_ablated),
        kl_interval=_kl_interval(kl, kl_ablated, seed),
        agreement=float(agree[rows].float().mean()),
    )


def complement_of(judge: Judge, mask: Mask) -> Mask:
    """All edges of the graph but the circuit's."""
    return judge.graph.exists.to(mask.device) & ~mask


def completeness_of(judge: Judge, mask: Mask) -> Completeness:
    """Ablates the circuit's edges, keeps all others, and judges what is left.

    A circuit that holds all of the behaviour leaves none outside: faithfulness and KL recovered near 0. One exact
    evaluation, of nearly the whole graph.

    Wang et al. 2022 (arXiv 2211.00593, section 4) call a circuit complete if circuit and model behave alike without any
    subset K of the circuit's nodes, |F(C without K) - F(M without K)| small for all K. This is their K = C, by edges
    instead of nodes and as a share of m(clean) - m(ablated): the one subset that needs no sampling.

    *When it misleads.* A node keeps all its edges outside the circuit, so it goes on working from them: a circuit that
    names the right nodes and few of their edges leaves much outside. Backups take over where the circuit is ablated.
    """
    left = prompt_values(judge, complement_of(judge, mask))
    return Completeness(faithfulness=judge.faithfulness_of(left.metric), kl_recovered=left.kl_recovered)
