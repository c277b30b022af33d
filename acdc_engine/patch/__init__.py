"""The exact intervention: the model under edge masks."""

from acdc_engine.patch.ablations import ABLATIONS, check_ablation
from acdc_engine.patch.evaluator import CircuitEvaluator

__all__ = ["ABLATIONS", "CircuitEvaluator", "check_ablation"]
