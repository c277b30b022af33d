"""Judges on tiny models, and prompts of which it is known what the model makes of them."""

from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.judge import Judge
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from tests.tiny_models import random_prompts, view


def judge_of(prompts: PromptSet, metric: str = "logit_diff", name: str = "llama") -> Judge:
    """Judges on a tiny model."""
    return Judge(CircuitEvaluator(view(name), prompts), get_metric(metric))


def tiny_judge(n: int = 12, metric: str = "logit_diff", seed: int = 0) -> Judge:
    """Judges on random prompts, with grouped keys and values."""
    return judge_of(random_prompts(n, seed=seed), metric, "llama_grouped")


def answered_by_the_model(right: bool, n: int = 8) -> PromptSet:
    """Prompts whose right answer is what the model prefers, or what it does not."""
    prompts = random_prompts(n)
    order = view("llama").logits(prompts.clean)[:, -1].argsort(-1, descending=True)
    best, worst = order[:, :1].tolist(), order[:, -1:].tolist()
    answers, wrong = (best, worst) if right else (worst, best)
    return PromptSet.from_tokens(prompts.clean.tolist(), prompts.corrupt.tolist(), answers=answers, wrong_answers=wrong)
