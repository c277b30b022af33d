"""What a run does to the right and the wrong answers: which comes first, and how far down the right one is."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from acdc_engine.graph.evidence_records import AnswerFigures
from acdc_engine.prompts.metrics import accuracy
from acdc_engine.prompts.prompt_set import NO_ANSWER, PromptSet


def answer_figures(logits: Float[Tensor, "prompts d_vocab"], prompts: PromptSet) -> AnswerFigures | None:
    """Looks at the answers in the logits of one run.

    `right_above_wrong` compares the answers with one another only: a model that expects neither can be right on every
    prompt. `most_likely` and `median_rank` compare with the whole vocabulary; ties count against the right answer.

    Args:
        logits: At the reading positions.
        prompts: On the same device.

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
        right_logit=_mean_logit(logits, prompts.answers),
        wrong_logit=_mean_logit(logits, prompts.wrong_answers) if has_wrong else None,
    )


def right_ranks(logits: Float[Tensor, "prompts d_vocab"], prompts: PromptSet) -> Int[Tensor, "prompts"]:
    """The best right answer's place among the tokens that are not right answers; 1 is before all of them."""
    right = torch.zeros_like(logits, dtype=torch.bool)
    rows, places = (prompts.answers != NO_ANSWER).nonzero(as_tuple=True)
    right[rows, prompts.answers[rows, places]] = True
    best = logits.masked_fill(~right, -torch.inf).amax(1, keepdim=True)
    return 1 + ((logits >= best) & ~right).sum(1)


def _mean_logit(logits: Float[Tensor, "prompts d_vocab"], ids: Int[Tensor, "prompts k"]) -> float:
    """Mean over each prompt's answers, then over the prompts."""
    there = ids != NO_ANSWER
    found = logits.double().gather(1, ids.clamp(min=0)).masked_fill(~there, 0.0)
    return float((found.sum(1) / there.sum(1)).mean())
