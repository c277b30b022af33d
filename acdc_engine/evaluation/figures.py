"""The figures a circuit is judged by."""

from jaxtyping import Bool
from torch import Tensor

from acdc_engine.graph.circuit_records import Figures
from acdc_engine.patching.judge import Judge
from acdc_engine.prompts.metrics import accuracy, get_metric

TWO_SIGNED = ("logit_diff", "prob_diff")
"""Metrics whose sign says which answer wins."""


def figures_of(judge: Judge, mask: Bool[Tensor, "senders receivers"]) -> Figures:
    """Judges one circuit three ways: faithfulness, KL recovered, and prompt by prompt.

    A mean can hide errors that cancel, so faithfulness stands beside

        KL recovered = 1 - KL(model || circuit) / KL(model || ablated)   (means over prompts; cannot exceed 1)
        normalised error = mean |m(circuit) - m(clean)| / |mean m(clean) - mean m(ablated)|

    and the share of prompts on which circuit and model agree (see `Figures`).

    Args:
        judge: The prompts.
        mask: The circuit.
    """
    evaluator = judge.evaluator
    prompts = evaluator.prompts.to(evaluator.view.device)
    logits, clean, ablated = evaluator.logits(mask[None])[0], evaluator.clean_logits(), evaluator.ablated_logits()
    values = judge.metric(logits, prompts, clean)
    kl = get_metric("kl")
    kl_ablated = float(kl(ablated, prompts, clean).mean())
    if judge.metric.name in TWO_SIGNED:
        agree = values.sign() == judge.clean.sign()
    else:
        agree = logits.argmax(-1) == clean.argmax(-1)
    has_answers = bool(prompts.answers.shape[1])
    return Figures(
        n_prompts=len(prompts),
        metric_clean=float(judge.clean.mean()),
        metric_corrupt=float(judge.ablated.mean()),
        metric_circuit=float(values.mean()),
        faithfulness=float((values.mean() - judge.ablated.mean()) / judge.range),
        kl_recovered=1.0 - float(kl(logits, prompts, clean).mean()) / kl_ablated if kl_ablated else 0.0,
        agreement=float(agree.float().mean()),
        normalised_error=float((values - judge.clean).abs().mean() / abs(judge.range)),
        accuracy_clean=float(accuracy(clean, prompts).float().mean()) if has_answers else None,
    )
