"""How good a circuit is, on prompts it was or was not searched on, and how far that can be trusted."""

from acdc_engine.evidence.behaviour import check_behaviour
from acdc_engine.evidence.bootstrap import MIN_PROMPTS, check_enough_prompts
from acdc_engine.evidence.completeness import completeness_of
from acdc_engine.evidence.evaluate import evaluate
from acdc_engine.evidence.figures import figures_of
from acdc_engine.evidence.hypotheses import run_tests
from acdc_engine.evidence.random_circuits import random_baseline, random_circuits
from acdc_engine.evidence.stability import necessity, score_stability

__all__ = [
    "MIN_PROMPTS",
    "check_behaviour",
    "check_enough_prompts",
    "completeness_of",
    "evaluate",
    "figures_of",
    "necessity",
    "random_baseline",
    "random_circuits",
    "run_tests",
    "score_stability",
]
